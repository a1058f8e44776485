"""B: a table of mistakes over every command: exit code 2, at most two lines, what to do, nothing written."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relope.cli import app
from relope.spec import SPECS

MISTAKES = """
extract                                                            | missing option '--model'
extract --model tiny-v --dataset tiny                                           | did you mean 'tiny-vl'
extract --modell tiny-vl                                         | did you mean --model?
extract --model tiny-vl --dataset tiny stray | unexpected extra argument
extract --model tiny-vl --model tiny-vl-large --dataset tiny       | --model is given 2 times
extract --model {tmp}/nowhere --dataset tiny                       | unknown model
extract --model {tmp}/busy --dataset tiny --out {tmp}/x            | holds no config.json
extract --model tiny-vl --dataset tinny                            | did you mean 'tiny'
extract --model tiny-vl --dataset {tmp}/none.jsonl                 | no data file at
extract --model tiny-vl --dataset {tmp}/busy                       | holds no data file
extract --model tiny-vl --dataset {tmp}/empty                      | no data file that we read
extract --model tiny-vl --dataset {tmp}/bytes.jsonl --out {tmp}/x  | is no UTF-8 text
extract --model tiny-vl --dataset tiny --name x --out {tmp}/x      | has its name
extract --model tiny-vl --dataset tiny --split dev --out {tmp}/x   | unknown split of tiny 'dev'
extract --model tiny-vl --dataset tiny --split ,                   | --split , is empty
extract --model tiny-vl --dataset tiny --limit 0                   | --limit 0: must be at least 1
extract --model tiny-vl --dataset tiny --limit -3                  | --limit -3: must be at least 1
extract --model tiny-vl --dataset tiny --limit ten                 | --limit ten: must be a whole number
extract --model tiny-vl --dataset tiny --limit 1.5                 | --limit 1.5: must be a whole number
extract --model tiny-vl --dataset tiny --limit                     | requires an argument
extract --model tiny-vl --dataset tiny --layers 9 --out {tmp}/x    | the model has 6 blocks
extract --model tiny-vl --dataset tiny --layers 0 --out {tmp}/x    | holds nothing but embeddings
extract --model tiny-vl --dataset tiny --layers -1 --out {tmp}/x   | is out of range
extract --model tiny-vl --dataset tiny --layers two --out {tmp}/x  | layer 'two' is no number
extract --model tiny-vl --dataset tiny --layers 1.5 --out {tmp}/x  | layer 1.5 is out of range
extract --model tiny-vl --dataset tiny --layers nan --out {tmp}/x  | layer 'nan' is no number
extract --model tiny-vl --dataset tiny --dtype float16             | must be auto, float32 or bfloat16
extract --model tiny-vl --dataset tiny --store-dtype float16       | must be auto, float32 or bfloat16
extract --model tiny-vl --dataset tiny --tokens few                | must be all or lean
extract --model tiny-vl --dataset tiny --codec zip                 | must be none or zstd
extract --model tiny-vl --dataset tiny --attn fast                 | must be sdpa, eager or flash_attention_2
extract --model tiny-vl --dataset tiny --engine locla                | did you mean 'local'
extract --model tiny-vl --dataset tiny --devices cpu,cuda:0 --out {tmp}/x | must be named and of one kind
extract --model tiny-vl --dataset tiny --devices cpu,gpu --out {tmp}/x    | unknown device 'gpu'
extract --model tiny-vl --dataset tiny --devices cpu,cpu --device cpu --out {tmp}/x | drop --device
extract --model tiny-vl --dataset tiny --devices cuda:8,cuda:9 --out {tmp}/x | device 'cuda:8' is not here
extract --model tiny-vl --dataset tiny --gpus-per-worker 1 --out {tmp}/x  | drop --gpus-per-worker
extract --model tiny-vl --dataset tiny --engine ray --devices cpu --out {tmp}/x | devices is not for the engine ray
extract --model tiny-vl --dataset tiny --engine ray --device cpu --out {tmp}/x | Ray gives each worker its cards
extract --model tiny-vl --dataset tiny --engine ray --gpus-per-worker 0 --device-map auto --out {tmp}/x | needs cards
extract --model tiny-vl --dataset tiny --workers 2 --out {tmp}/x          | add --endpoint URL
extract --model tiny-vl --dataset tiny --engine vllm --out {tmp}/x   | needs a Python with vLLM or the URL of a server
extract --model tiny-vl --dataset tiny --engine vllm --vllm-url here --out {tmp}/x | is no URL of a server
extract --model tiny-vl --dataset tiny --engine vllm --vllm-python {tmp}/py --out {tmp}/x | there is no Python at
extract --model tiny-vl --dataset tiny --vllm-url http://x --out {tmp}/x | drop --vllm-url
extract --model tiny-vl --dataset tiny --shard 5/4 --out {tmp}/x     | shard '5/4' is neither auto nor one of n
extract --model tiny-vl --dataset tiny --shard auto --out {tmp}/x    | tells a shard
extract --model gpt --dataset tiny --endpoint http://x --engine transformers --out {tmp}/x | unknown engine of extract
extract --model tiny-vl --dataset tiny --quantize 3bit             | must be 4bit or 8bit
extract --model tiny-vl --dataset tiny --device-map all            | --device-map all: must be auto
extract --model tiny-vl --dataset tiny --limit 1 --device gpu --out {tmp}/x   | unknown device 'gpu'
extract --model tiny-vl --dataset tiny --limit 1 --device cuda:9 --out {tmp}/x | device 'cuda:9' is not here
extract --model tiny-vl --dataset tiny --grader exakt --out {tmp}/x | did you mean 'exact'
extract --model tiny-vl --dataset tiny --perturb nois --out {tmp}/x | did you mean 'noise'
extract --model tiny-vl --dataset tiny --perturb noise:x --out {tmp}/x   | strength 'x' is no number
extract --model tiny-vl --dataset tiny --perturb noise:-1 --out {tmp}/x  | numbers from 0 to 1
extract --model tiny-vl --dataset tiny --perturb noise:nan --out {tmp}/x | numbers from 0 to 1
extract --model tiny-vl --dataset tiny --captions {tmp}/c --out {tmp}/x  | add --text-only
extract --model tiny-vl --dataset tiny --text-only --captions {tmp}/c --out {tmp}/x | no captions file
extract --model tiny-vl --dataset tiny --text-only --perturb blur --out {tmp}/x | drop --perturb or --text-only
extract --model tiny-vl --dataset tiny --samples 65                | --samples 65: must be at most 64
extract --model tiny-vl --dataset tiny --samples -1                | --samples -1: must be at least 0
extract --model tiny-vl --dataset tiny --temperature 0             | --temperature 0: must be above 0
extract --model tiny-vl --dataset tiny --temperature 11            | must be at most 10
extract --model tiny-vl --dataset tiny --temperature hot           | --temperature hot: must be a number
extract --model gpt --dataset tiny --endpoint ftp://x --out {tmp}/x       | is no web address
extract --model gpt --dataset tiny --endpoint http://x --layers 3 --out {tmp}/x | drop --layers
extract --model gpt --dataset tiny --endpoint http://x --max-new-tokens 0 --out {tmp}/x | an endpoint gives answers
extract --model gpt --dataset tiny --endpoint http://x --api-key-env NO_KEY_HERE --out {tmp}/x | no variable NO_KEY_HERE
extract --model gpt --dataset tiny --endpoint http://x --max-usd 3 --out {tmp}/x | cannot be capped at $3
extract --model gpt --dataset tiny --endpoint http://x --workers 0        | --workers 0: must be at least 1
extract --model gpt --dataset tiny --endpoint http://x --timeout 0        | --timeout 0: must be above 0
extract --model gpt --dataset tiny --endpoint http://x --costs {tmp}/none --max-usd 3 --out {tmp}/x | does not exist
extract --model tiny-vl --dataset tiny --max-usd 3 --out {tmp}/x          | add --endpoint URL
extract --model tiny-vl --dataset tiny --max-pixels 5                     | --max-pixels 5: must be at least 64
extract --model tiny-vl --dataset tiny --batch --out {tmp}/x              | add --endpoint URL
plan --model gpt --dataset tiny --endpoint http://x --measure 8           | drop --measure
extract --model tiny-vl --dataset tiny --trace-tokens 0            | --trace-tokens 0: must be at least 1
extract --model tiny-vl --dataset tiny --max-new-tokens -1         | must be at least 0
extract --model tiny-vl --dataset tiny --max-new-tokens 0 --p-true --out {tmp}/x | drop --max-new-tokens 0
extract --model tiny-vl --dataset tiny --batch-size 0              | --batch-size 0: must be at least 1
extract --model tiny-vl --dataset tiny --seed -1                   | --seed -1: must be at least 0
extract --model tiny-vl --dataset tiny --limit 1 --out {tmp}/busy  | other files in it
extract --model tiny-vl --dataset tiny --limit 1 --out {tmp}/file  | is a file, not a store
extract --model tiny-vl --dataset tiny --limit 1 --out {tmp}/file/x | something else stands there
extract --model tiny-vl --dataset tiny --limit 1 --layers 2,3 --out {store} | holds another recipe
extract --model tiny-vl --dataset tiny-bars --limit 1 --reuse {tmp}/nowhere --out {tmp}/x | no store at
extract --model tiny-vl --dataset tiny-bars --limit 1 --reuse {tmp}/busy --out {tmp}/x | is no store
plan --model tiny-v --dataset tiny                                 | did you mean 'tiny-vl'
plan --model tiny-vl --dataset tiny --measure -1                   | --measure -1: must be at least 0
plan --model tiny-vl --dataset tiny --layers 99                    | layer 99 is out of range
caption | missing option '--dataset'
caption --model m --dataset tiny --endpoint x --out {tmp}/c        | is no web address
caption --model m --dataset tiny --endpoint ftp://h --out {tmp}/c  | is no web address
caption --model m --dataset tiny --endpoint http://localhost:1/v1 --api-key-env NO_SUCH_KEY | no variable NO_SUCH_KEY
caption --model tiny-v --dataset tiny --out {tmp}/c                | did you mean 'tiny-vl'
caption --model tiny-vl --dataset tinny                            | did you mean 'tiny'
caption --model tiny-vl --dataset tiny --split dev --out {tmp}/c   | unknown split of tiny 'dev'
caption --model tiny-vl --dataset tiny --workers 0                 | --workers 0: must be at least 1
caption --model tiny-vl --dataset tiny --workers 1000              | --workers 1000: must be at most 256
caption --model tiny-vl --dataset tiny --max-new-tokens 0          | must be at least 1
grade                                                              | either --store STORE or --responses
grade --store {store} --responses {tmp}/q.jsonl                    | either --store STORE or --responses
grade --store {store} --grader exakt                               | did you mean 'exact'
grade --store {tmp}/nowhere                                        | no store at
grade --store {tmp}/empty.zarr                                     | holds no finished sample
grade --store {store} --grader judge                               | --judge-model MODEL --endpoint URL
grade --store {store} --grader judge --judge-model m               | what is not given: endpoint
grade --store {store} --grader exact --judge-model m               | the grader exact asks no model
grade --store {store} --max-requests 3                             | asks no model
grade --store {store} --grader judge --judge-model m --endpoint x  | is no web address
grade --store {store} --grader judge --judge-model a;b --endpoint http://x   | at most 80 letters
grade --store {store} --grader judge --judge-model m --endpoint http://x --api-key-env NO_KEY | no variable NO_KEY
grade --store {store} --grader judge --judge-model m --endpoint http://x --max-usd 3 | cannot be capped at $3
grade --store {store} --workers 0                                  | --workers 0: must be at least 1
extract --model tiny-vl --dataset tiny --grader judge --out {tmp}/x | asks a model, which is done once
grade --responses {tmp}/none.jsonl                                 | no data file at
grade --responses {tmp}/bytes.jsonl                                | is no UTF-8 text
grade --responses {tmp}/q.jsonl                                    | column 'response' is missing
grade --responses {tmp}/empty                                      | no data file that we read
fit                                                                | missing argument 'METHOD'
fit probe                                                          | missing option '--store'
fit prob --store {store}                                           | did you mean 'probe'
fit probe --store                                                  | requires an argument
fit probe --store {store} extra                                    | unexpected extra argument
fit probe --store {tmp}/nowhere                                    | no store at
fit probe --store {tmp}/busy                                       | is no store
fit probe --store {tmp}/file                                       | is no store
fit probe --store {tmp}/empty.zarr                                 | holds no finished sample
fit probe --store {tmp}/ungraded.zarr                              | has no grades yet
fit probe --store s4://x/y                                         | unknown scheme 's4'
fit probe --store s3:/x/y                                          | one slash after the scheme
fit probe --store hf://x                                           | must be hf://datasets
fit probe --store {store} --also {tmp}/nowhere                     | no store at
fit probe --store {store} --also {tmp}/empty.zarr                  | holds no finished sample
fit probe --store {store} --store {store}                          | --store is given 2 times
fit probe --store {store} --set epoch=3                            | did you mean 'epochs'
fit probe --store {store} --set epochs=0                           | setting epochs=0: must be at least 1
fit probe --store {store} --set epochs=x                           | must be a whole number
fit probe --store {store} --set epochs=[1                          | must be a whole number
fit probe --store {store} --set epochs                             | must be key=value
fit probe --store {store} --set =3                                 | must be key=value
fit probe --store {store} --set epochs=3 --set epochs=4            | set epochs is given twice: 3 and 4
fit probe --store {store} --set lr=fast                            | setting lr='fast': must be a number
fit probe --store {store} --set lr=-1                              | must be above 0
fit probe --store {store} --set head=lin                           | must be mlp or logistic
fit probe --store {store} --layer 99                               | layer 99 is not in
fit probe --store {store} --layer 0                                | --layer 0: must be at least 1
fit probe --store {store} --layer two                              | --layer two: must be a whole number
fit probe --store {store} --cap 1                                  | --cap 1: must be at least 4
fit probe --store {store} --folds 1                                | --folds 1: must be at least 2
fit probe --store {store} --folds 51                               | --folds 51: must be at most 50
fit probe --store {store} --folds 3 --out {tmp}/x                  | must end in .parquet
fit probe --store {store} --split dev                              | unknown split
fit probe --store {store} --leave-out nope                         | unknown data set to leave out
fit probe --store {store} --grades nope@1                          | nope@1
fit probe --store {store} --device gpu                             | unknown device 'gpu'
fit probe --store {store} --large-store {store}                    | drop --large-store
fit probe --store {store} --out {tmp}/file                         | Not a directory
fit probe --store {store} --out {tmp}/file/x                       | Not a directory
fit routellm-sw --store {store} --large-store {store}              | made alike
fit probe --store {store} --split Train                            | did you mean 'train'
fit mot --store {store}                                            | extract again with --samples 5
sweep                                                              | missing argument 'METHOD'
sweep prob --store {store}                                         | did you mean 'probe'
sweep logprob --store {store}                                      | trains nothing
sweep probe --store {tmp}/empty.zarr --grid epochs=1,2             | holds no finished sample
sweep probe --store {store} --grid epoch=1,2                       | did you mean 'epochs'
sweep probe --store {store} --grid epochs                          | must be key=value
sweep probe --store {store} --grid epochs=,                        | must be key=value
sweep probe --store {store} --grid layer=a                         | is no block number
sweep probe --store {store} --grid layer=99                        | layer 99 is not in
sweep probe --store {store} --seeds 0                              | --seeds 0: must be at least 1
sweep probe --store {store} --grid epochs=1,2 --set epochs=1       | by --set or by --grid
sweep probe --store {store} --grid epochs=1 --out {tmp}/file       | is no table of a sweep
explain --router {router} --store {store}                          | missing option '--sample'
explain --router {router} --store {store} --sample 1               | cannot be explained
explain --router {tmp}/nowhere --store {store} --sample 1          | router folder
explain --router {tmp}/busy --store {store} --sample 1             | holds no finished router
export {router}                                                    | missing option '--out'
export {router} --out {tmp}/x                                      | which has no adapter
export {tmp}/nowhere --out {tmp}/x                                 | router folder
predict --store {store}                                            | missing option '--router'
predict --router {router}                                          | missing option '--store'
predict --router {tmp}/nowhere --store {store}                     | is not there
predict --router {tmp}/busy --store {store}                        | holds no finished router
predict --router probe --store {store}                             | must be fitted first
predict --router prob --store {store}                              | did you mean 'probe'
predict --router mot --store {store}                               | extract again with --samples 5
predict --router {router} --store {store} --split dev              | unknown split
predict --router {router} --store {tmp}/nowhere                    | no store at
predict --router {router} --store {tmp}/empty.zarr                 | holds no finished sample
predict --router logprob --store {tmp}/empty.zarr                  | holds no finished sample
predict --router {router} --store {store} --out {tmp}/busy         | busy
predict --router {router} --store {store} --out {tmp}/file/x.parquet | choose another --out
evaluate                                                           | missing option '--store'
evaluate --store {tmp}/nowhere                                     | no store at
evaluate --store {tmp}/empty.zarr --scores {scores}                | holds no finished sample
evaluate --store {tmp}/ungraded.zarr --scores {scores}             | has no grades yet
evaluate --store {store} --scores {tmp}/busy                       | no scores in
evaluate --store {store} --scores {tmp}/nowhere                    | no scores in
evaluate --store {store} --scores {scores} --methods prob --out {tmp}/x | did you mean 'probe'
evaluate --store {store} --scores {scores} --split dev --out {tmp}/x    | unknown split
evaluate --store {store} --scores {scores} --grades nope@1 --out {tmp}/x | nope@1
evaluate --store {store} --scores {scores} --large-store {tmp}/nowhere --out {tmp}/x | no store at
evaluate --store {store} --scores {scores} --large-store {store} --out {tmp}/x | store of the larger model
evaluate --store {store} --scores {scores} --labels-store {tmp}/nowhere --out {tmp}/x | no store at
evaluate --store {store} --scores {scores} --costs {tmp}/latin.yaml --out {tmp}/x | is no valid YAML in UTF-8
evaluate --store {store} --scores {scores} --costs {tmp}/bad.yaml --out {tmp}/x | is no valid YAML
evaluate --store {store} --scores {scores} --costs {tmp}/list.yaml --out {tmp}/x | must map `models`
evaluate --store {store} --scores {scores} --costs {tmp}/none.yaml --out {tmp}/x | copy the example
evaluate --store {store} --bootstrap 5                             | --bootstrap 5: must be at least 100
evaluate --store {store} --bootstrap many                          | must be a whole number
calibrate --store {store} --budget 0.2                             | give --router DIR --store STORE
calibrate --bundle {tmp}/busy --budget 0.2                         | or --bundle DIR --from-log LOG
calibrate --bundle {tmp}/busy --from-log {tmp}/file --budget 0.2   | holds no bundle
plan --model gpt --dataset tiny --endpoint http:// --out {tmp}/x    | is no web address
calibrate --bundle {tmp}/busy --from-log {tmp}/file --router {router} --budget 0.2 | give --router DIR --store STORE
calibrate --router {router} --store {store} --budget 0.2 --feedback {tmp}/file | add --from-log LOG
calibrate --router {tmp}/nowhere --store {store} --budget 0.2      | router folder
calibrate --router {router} --store {tmp}/nowhere --budget 0.2     | no store at
calibrate --router {router} --store {store} --budget much          | --budget much: must be a number
route --bundle {tmp}/busy                                          | missing argument 'QUESTION'
route why?                                                         | missing option '--bundle'
route why? --bundle {tmp}/nowhere                                  | holds no bundle
route why? --bundle {tmp}/busy                                     | holds no bundle
route why? --bundle {tmp}/busy --large-base-url http://h/v1        | needs its name there
route why? --bundle {tmp}/busy --large-model m                     | needs its server
route why? --bundle {tmp}/busy --image {tmp}/none.png              | no image at
route why? --bundle {tmp}/busy --image {tmp}/file                  | cannot be decoded
route why? --bundle s3://b/bundle                                  | relope router pull s3://b/bundle
route why? --bundle {tmp}/busy --device gpu                        | unknown device 'gpu'
route why? --bundle {tmp}/busy --threshold 2                       | --threshold 2: must be at most 1
serve                                                              | missing option '--bundle'
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --engine vllm | asks one server
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --vllm-url http://v | add --engine vllm
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --engine vllm --vllm-url v | is no address of an API
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --engine vllm --vllm-python {tmp}/py | no Python at
vllm-command                                                       | missing option '--bundle'
vllm-command --bundle {tmp}/nowhere                                | holds no bundle
vllm-command --bundle {tmp}/busy --run --python {tmp}/nowhere      | holds no bundle
vllm-command --bundle {tmp}/busy --port 0                          | --port 0: must be at least 1
serve --bundle {tmp}/busy --large-model m                          | missing option '--large-base-url'
serve --bundle {tmp}/nowhere --large-base-url http://h/v1 --large-model m | holds no bundle
serve --bundle {tmp}/busy --large-base-url http://h/v1 --large-model m | holds no bundle
serve --bundle {tmp}/busy --large-base-url http://h/v1 --large-model m --device gpu | unknown device 'gpu'
serve --bundle {tmp}/busy --large-base-url ftp://h --large-model m | is no web address
serve --bundle {tmp}/busy --large-base-url h --large-model m       | is no web address
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --host 0.0.0.0 | needs an API key
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --api-key-file {tmp}/file | at least 16 printable
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --api-key-file {tmp}/nowhere | no key at
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --large-api-key-env NO_KEY | no variable NO_KEY
plan --model gpt --dataset tiny --endpoint http://h --max-usd 3 --out {tmp}/x | no prices of gpt are given
extract --model gpt --dataset tiny | with --endpoint URL any name there
grade --store {store} --grader judge:gpt@1 | --grader judge --judge-model MODEL
router pull file://{tmp}/nobundle --out {tmp}/x | mend the address, or push the bundle there
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --max-usd-per-hour 5 | needs the prices
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --allow-image-host http://x | no host's name
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --log-prompts | no log is kept
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --shadow both | must be small or large
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --port 70000 | must be at most 65535
serve --bundle {tmp}/busy --large-base-url http://h --large-model m --threshold 2 | must be at most 1
view                                                               | missing argument 'STORE|REPORT'
view {tmp}/nowhere                                                 | no store at
view {store} --large-store {store}                                 | store of the larger model
view {store} --large-store {tmp}/nowhere                           | no store at
view {store} --split nowhere                                       | unknown split
view {store} --grades none@1                                       | unknown grades
view {store} --scores {tmp}/busy                                   | `relope predict` makes them
view {store} --router {tmp}/busy                                   | `relope fit attention-probe` makes one
view {store} --budget 2                                            | in whole percents
view {store} --port 70000                                          | must be at most 65535
doctor --port 1                                                    | no such option --port
doctor --vllm-python                                               | requires an argument
study                                                              | missing argument 'STUDY'
study table9                                                       | did you mean 'table4'
study table1                                                       | give --reports
study table1 --reports {tmp}/nowhere                               | no report in
study figure3 --sweeps {tmp}/nowhere                               | relope sweep
study figure3 --sweeps {tmp}/file                                  | no readable Parquet
study table1 --reports {tmp}/busy --bootstrap 1                    | must be at least 100
recommend --store {tmp}/nowhere                                    | no store at
recommend --store {tmp}/nowhere --budget 20                        | did you mean 0.2?
compare {tmp}/nowhere                                              | missing argument 'SECOND'
compare {tmp}/nowhere {tmp}/busy                                   | has no report.json
compare {tmp}/busy {tmp}/file --bootstrap 1                        | must be at least 100
router push {tmp}/busy                                             | missing argument 'URI'
router push {tmp}/busy file:///{tmp}/x                             | holds no bundle
router push {tmp}/nowhere s4://b/x                                 | holds no bundle
router pull s4://b/x                                               | unknown scheme 's4'
router pull {tmp}/nowhere --out {tmp}/x                            | there is no bundle at
router pull {tmp}/nowhere --out {tmp}/busy                         | is there already
router pull hf://x/y/z                                             | must be hf://datasets
store nothing                                                      | unknown command 'nothing'
store inf                                                          | did you mean 'info'
store info                                                         | missing argument 'STORE'
store info {tmp}/nowhere                                           | no store at
store info {tmp}/busy                                              | is no store
store info s3://b/x                                                | is not on this machine
store verify {tmp}/nowhere                                         | no store at
store verify {store} --against-model 0                             | must be at least 1
store convert {store}                                              | missing option '--out'
store convert {store} --out {store}                                | is the store that is read
store convert {store} --out {tmp}/busy                             | other files in it
store convert {store} --out {tmp}/x --layers 9                     | layer 9 is not in
store convert {store} --out {tmp}/x --layers x                     | must be block numbers
store convert {store} --out {tmp}/x --codec zip                    | must be none or zstd
store push {store}                                                 | missing argument 'URI'
store push {store} s4://b/x                                        | unknown scheme 's4'
store push {tmp}/nowhere file:///{tmp}/x                           | no store at
store push {tmp}/empty.zarr file:///{tmp}/x                        | has no finished part
store pull s4://b/x                                                | unknown scheme 's4'
store pull file://x                                                | three slashes
store pull {tmp}/nowhere --out {tmp}/x                             | no store at
store pull {store} --layers 9 --out {tmp}/x                        | layer 9 is not in
store pull {store} --split dev --out {tmp}/x                       | unknown split
predict --router logprob --store {store} --split TEST              | did you mean 'test'
predict --router logprob --store {store} --budget 20               | did you mean 0.2?
predict --router logprob --store {store} --out {tmp}/decided.xlsx  | decided.csv
calibrate --router logprob --store {store} --budget 20             | did you mean 0.2?
calibrate --router logprob --store {store} --max-error 10          | did you mean 0.1?
calibrate --router logprob --store {store} --min-accuracy 80       | did you mean 0.8?
calibrate --router logprob --store {store} --budget 0.2 --confidence 95 | did you mean 0.95?
calibrate --router logprob --store {store} --budget 0.2            | --split test,train is there
calibrate --router logprob --store {store} --split test --min-accuracy 0.5 --large-store {store} | made alike
evaluate --store {store} --scores {scores} --budget 20             | did you mean 0.2?
compare {store} {scores}                                           | STORE.report
store ls {tmp}/nowhere                                             | no store at
store merge {store} --out {tmp}/x                                  | two or more stores
store merge {store} {tmp}/nowhere --out {tmp}/x                    | no store at
store merge {store} {store} --out {tmp}/busy                       | other files in it
store gc {tmp}/nowhere                                             | no store at
store gc {tmp}/busy                                                | is no store
store gc {store} --hours -1                                        | --hours -1: must be at least 0
store gc {store} --hours long                                      | --hours long: must be a number
run nothing                                                        | unknown pipeline
run demo --jobs 0                                                  | must be greater than or equal to 1
run demo --jobs many                                               | must be a valid integer
demo --out {tmp}/file                                              | something else stands there
list                                                               | missing argument 'KIND'
list things                                                        | unknown kind 'things'
import                                                             | missing argument 'FILE
import {tmp}/q.jsonl                                               | missing option '--out'
import {tmp}/none.jsonl --out {tmp}/x                              | there is no file
import {tmp}/busy --out {tmp}/x                                    | is a folder
import {tmp}/q.jsonl --model m --out {tmp}/x                       | is of no format that is known
import {tmp}/q.jsonl --format our --model m --out {tmp}/x          | did you mean 'ours'
import {tmp}/q.jsonl --format ours --model m --out {tmp}/x         | the column response is missing
import {tmp}/q.jsonl --store {tmp}/none --out {tmp}/x              | no store at
import {tmp}/bytes.jsonl --model m --out {tmp}/x                   | is no UTF-8 text
extrakt                                                            | did you mean 'extract'
--nope                                                             | no such option --nope
"""
TABLE = [tuple(part.strip() for part in line.split(" | ")) for line in MISTAKES.strip().splitlines()]


def invoke(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def world(tmp_path_factory, store_path):
    """A store with a router and scores, and what mistakes are made with."""
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "busy").mkdir()
    (tmp / "busy" / "thesis.txt").write_text("mine")
    (tmp / "file").write_text("mine")
    (tmp / "empty").write_text("")
    (tmp / "bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    (tmp / "q.jsonl").write_text('{"id": "1", "question": "?", "answer": "a", "split": "train"}\n')
    (tmp / "latin.yaml").write_bytes("models: {é: {}}".encode("latin-1"))
    (tmp / "bad.yaml").write_text("models: [1")
    (tmp / "list.yaml").write_text("- 1")
    for name in ("empty.zarr", "ungraded.zarr"):
        shutil.copytree(store_path, tmp / name)
        shutil.rmtree(tmp / name / "grades")
    for folder in ("catalog", "parts"):
        for inner in (tmp / "empty.zarr" / folder).iterdir():
            shutil.rmtree(inner) if inner.is_dir() else inner.unlink() if folder == "catalog" else None
    names = {"tmp": tmp, "store": store_path, "router": tmp / "routers" / "probe", "scores": tmp / "scores"}
    fit = ("fit", "probe", "--store", store_path, "--out", names["router"], "--set", "epochs=1", "--device", "cpu")
    predict = ("predict", "--router", names["router"], "--store", store_path)
    for made in (fit, (*predict, "--out", names["scores"] / "probe.parquet")):
        assert invoke(*made).exit_code == 0
    return {name: str(path) for name, path in names.items()}


def contents(*folders):
    """Return what lies below folders: name → size and time."""
    paths = (path for folder in folders for path in Path(folder).parent.rglob("*"))
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths if path.is_file()}


def test_b_the_table_is_long_and_has_every_command():
    assert len(TABLE) >= 200 and len({command for command, _ in TABLE}) == len(TABLE)
    for step in (*SPECS, "demo", "run", "list"):
        assert any(command.startswith(step) for command, _ in TABLE), step


@pytest.mark.parametrize(("command", "says"), TABLE, ids=[command for command, _ in TABLE])
def test_b_a_mistake_gets_two_lines_and_exit_code_2(command, says, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = contents(world["tmp"], world["store"])
    said = invoke(*(word.format(**world) for word in command.split()))
    lines = said.stderr.strip().splitlines()
    assert (said.exit_code, said.stdout) == (2, "") and lines[0].startswith("error: "), said.output
    assert len(lines) <= 2 and says in said.stderr and "Traceback" not in said.output
    allowed = (
        "(",
        "must be",
        "did you mean",
        "numbers from",
        "can be: ",
        "has no adapter",
        "takes",
        "is no",
        "has its name",
    )
    assert len(lines) == 2 or any(words in lines[0] for words in allowed), "says what is allowed, or what to do next"
    assert contents(world["tmp"], world["store"]) == before and not list(tmp_path.iterdir())


def test_b_an_empty_value_that_is_needed_has_no_default():
    said = invoke("route", "", "--bundle", "nowhere")
    assert said.exit_code == 2 and said.stderr.splitlines() == ["error: QUESTION '' is empty", "give a value"]
