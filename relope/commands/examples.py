"""Two examples a command, as ``--help`` shows them."""

EXAMPLES: dict[str, tuple[str, str]] = {
    "extract": (
        "relope extract --model tiny-vl --dataset tiny --out runs/tiny.zarr",
        "relope extract --model gpt-4.1 --dataset mine.jsonl --endpoint https://api.openai.com/v1 --api-key-env MY_KEY",
    ),
    "plan": (
        "relope plan --model gemma3-12b --dataset mine.jsonl --layers 23,24",
        "relope plan --model tiny-vl --dataset tiny --measure 64",
    ),
    "caption": (
        "relope caption --model tiny-vl --dataset mine.jsonl",
        "relope caption --model my-model --dataset mine.jsonl --endpoint http://localhost:8000/v1 --api-key-env MY_KEY",
    ),
    "grade": (
        "relope grade --store runs/tiny.zarr --grader exact",
        "relope grade --store runs/mine.zarr --grader judge --judge-model gpt-4.1 --endpoint https://api.openai.com/v1",
    ),
    "import": (
        "relope import results.jsonl --model gpt-4.1 --store runs/tiny.zarr --out runs/gpt.zarr",
        "relope import GPT4o_MMBench.xlsx --format vlmevalkit --model GPT4o --out runs/gpt4o.zarr",
    ),
    "fit": (
        "relope fit attention-probe --store runs/tiny.zarr",
        "relope fit probe --store runs/tiny.zarr --set head=logistic --seed 1",
    ),
    "sweep": (
        "relope sweep probe --store runs/tiny.zarr --grid epochs=5,20 --grid head=mlp,logistic",
        "relope sweep relope --store runs/tiny.zarr --grid lora_rank=2,4,8 --seeds 5",
    ),
    "explain": (
        "relope explain --router runs/t.zarr.routers/attention-probe --store runs/t.zarr --sample count-test-0-count",
        "relope explain --router router --store runs/tiny.zarr --sample 17 --out runs/why-17",
    ),
    "export": (
        "relope export runs/tiny.zarr.routers/relope --out runs/adapter",
        "relope export runs/aokvqa.zarr.routers/relope@seed1 --out adapter",
    ),
    "predict": (
        "relope predict --router runs/tiny.zarr.routers/probe --store runs/tiny.zarr",
        "relope predict --router logprob --store runs/tiny.zarr --split validation,test",
    ),
    "calibrate": (
        "relope calibrate --router runs/tiny.zarr.routers/probe --store runs/tiny.zarr --budget 0.2",
        "relope calibrate --bundle runs/tiny.zarr.bundles/probe --from-log runs/decisions.jsonl --budget 0.2",
    ),
    "route": (
        'relope route --bundle runs/tiny.zarr.bundles/probe "What colour is it?" --image cat.jpg',
        'relope route --bundle B "Why?" --large-base-url https://api.openai.com/v1 --large-model gpt-4.1 '
        "--large-api-key-env OPENAI_API_KEY --json",
    ),
    "serve": (
        "relope serve --bundle runs/tiny.zarr.bundles/probe --large-base-url http://big:8000/v1 --large-model big",
        "relope serve --bundle B --large-base-url https://api.openai.com/v1 --large-model gpt-4.1 "
        "--large-api-key-env OPENAI_API_KEY --shadow large --log runs/decisions.jsonl",
    ),
    "vllm-command": (
        "relope vllm-command --bundle runs/tiny.zarr.bundles/probe",
        "relope vllm-command --bundle B --run --python vllm/bin/python --argument=--max-model-len=8192",
    ),
    "recommend": (
        "relope recommend --store runs/tiny.zarr",
        "relope recommend --store runs/tiny.zarr --budget 10% --before-answer",
    ),
    "evaluate": (
        "relope evaluate --store runs/tiny.zarr",
        "relope evaluate --store runs/tiny.zarr --large-store runs/large.zarr --costs prices.yaml",
    ),
    "view": (
        "relope view runs/tiny.zarr.report",
        "relope view runs/tiny.zarr --large-store runs/large.zarr --split test",
    ),
    "study": (
        "relope study table1 --reports runs/tiny-all",
        "relope study figure3 --sweeps runs/tiny.zarr.sweeps/relope.parquet --out runs/figure3",
    ),
    "compare": (
        "relope compare runs/before.report runs/after.report",
        "relope compare runs/a.report runs/b.report --json",
    ),
    "store info": ("relope store info runs/tiny.zarr", "relope store info runs/tiny.zarr --json"),
    "store verify": (
        "relope store verify runs/tiny.zarr",
        "relope store verify runs/tiny.zarr --deep --against-model 8",
    ),
    "store convert": (
        "relope store convert runs/tiny.zarr --out runs/small.zarr --codec zstd",
        "relope store convert runs/tiny.zarr --out runs/last.zarr --layers 4 --tokens lean",
    ),
    "store push": (
        "relope store push runs/tiny.zarr s3://bucket/tiny.zarr",
        "relope store push runs/tiny.zarr hf://datasets/team/states --license cc-by-4.0",
    ),
    "store pull": (
        "relope store pull s3://bucket/tiny.zarr",
        "relope store pull s3://bucket/tiny.zarr --layers 4 --split test --out runs/test.zarr",
    ),
    "router push": (
        "relope router push runs/tiny.zarr.bundles/probe s3://bucket/routers/probe",
        "relope router push runs/tiny.zarr.routers/probe hf://models/team/probe-for-tiny --license mit",
    ),
    "router pull": (
        "relope router pull s3://bucket/routers/probe",
        "relope router pull hf://models/team/probe-for-tiny --out runs/probe",
    ),
    "store ls": ("relope store ls s3://bucket/stores", "relope store ls hf://datasets/team/states/tiny.zarr"),
    "store merge": (
        "relope store merge runs/train.zarr runs/test.zarr --out runs/all.zarr",
        "relope store merge s3://bucket/a.zarr s3://bucket/b.zarr --out runs/all.zarr",
    ),
    "store gc": ("relope store gc runs/tiny.zarr", "relope store gc s3://bucket/tiny.zarr --delete --hours 48"),
    "doctor": ("relope doctor", "relope doctor --out /data/runs --json"),
    "demo": ("relope demo --quick", "relope demo --out runs/demo"),
    "run": ("relope run", "relope run tiny-all --dry-run"),
    "list": ("relope list methods", "relope list datasets --json"),
}
"""Command → two lines to type; a test reads each of them into its specification."""
