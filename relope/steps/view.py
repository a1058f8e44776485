"""The step ``view``: a store's samples, or a report's, in a browser of this machine."""

import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from relope.errors import NotFoundError
from relope.spec import ViewSpec
from relope.steps.serve import require_packages
from relope.steps.step import Step
from relope.types import Outcome, Watch, silent
from relope.words import counted

if TYPE_CHECKING:
    from PIL.Image import Image

    from relope.steps.explain import Looked
    from relope.steps.view_inputs import Viewed
    from relope.store import ActivationStore
    from relope.view.app import Picture
    from relope.view.app import View as Page
    from relope.view.pages import Looks
    from relope.view.verdicts import Save, Side

HOST = "127.0.0.1"
_SIDE, _LITTLE = 1600, 100
"""Pixels of an image's longer side at most; and below which it is sent to the bit."""

_HEADER_S, _DRAIN_S = 10.0, 2.0


def output(spec: ViewSpec) -> Path:
    """Return what is looked at: beside corrected grades, nothing is written."""
    return Path(spec.source)


def run(spec: ViewSpec, watch: Watch) -> Outcome:
    """Show the page until SIGTERM or SIGINT."""
    require_packages("the page")
    from relope.serve.listening import Listener, logger_on_stderr
    from relope.steps.view_inputs import viewed
    from relope.view.app import make_app

    seen = viewed(spec)
    page = page_of(spec, seen)
    logger = logger_on_stderr("relope.view", "%(message)s", quiet=watch is silent)
    for note in seen.board.notes:
        logger.warning("%s", note)

    def listens(url: str) -> None:
        logger.info("%s of %s at %s (Ctrl-C ends it)", counted(len(seen.board), "sample"), seen.board.source, url)

    Listener(make_app(page), HOST, spec.port, listens, header_s=_HEADER_S, drain_s=_DRAIN_S).serve_until_told()
    by_hand = sum(int(said.sum()) for said in page.verdicts.by_hand.values())
    text = "the page is closed" + (f", {counted(by_hand, 'grade')} by hand" if by_hand else "")
    return Outcome(output(spec), False, text, {"samples": len(seen.board), "corrected": by_hand})


def page_of(spec: ViewSpec, seen: "Viewed") -> "Page":
    """Return what the page is made of.

    Raises:
        NotFoundError: no router at the path that was given.
        InvalidInputError: the key in the environment is none.
    """
    from relope.serve.access import KEY_VARIABLE, Access, read_key
    from relope.view.app import View
    from relope.view.verdicts import Verdicts

    router = _router(spec, seen)
    return View(
        board=seen.board,
        verdicts=Verdicts(seen.board, _said_before(seen), _saver(seen)),
        thumbnail=seen.store.thumbnail,
        image=_images(seen),
        looks=None if router is None else _looks(router, seen),
        router="" if router is None else router.name,
        budget=round(100 * spec.budget),
        access=Access(read_key(None, KEY_VARIABLE)),
    )


def _router(spec: ViewSpec, seen: "Viewed") -> Path | None:
    """Return the folder of the router whose weights are shown: the one that was named, else the attention probe's."""
    if spec.router is not None:
        if not (spec.router / "router.json").is_file():
            raise NotFoundError(f"no router in {spec.router}", hint="`relope fit attention-probe` makes one")
        return spec.router
    from relope.steps.outputs import router_folder

    usual = router_folder(str(seen.store.path), "attention-probe")
    return usual if (usual / "router.json").is_file() and not seen.store.is_remote else None


def _looks(folder: Path, seen: "Viewed") -> "Callable[[str], Looks]":
    """Return what tells where a router looks; its files are read when that is first asked."""
    lock = threading.Lock()
    loaded: list[Callable[[ActivationStore, str], Looked]] = []

    def looks(name: str) -> "Looks":
        from relope.steps.explain import looker
        from relope.view.pages import Looks

        with lock:
            if not loaded:
                loaded.append(looker(folder))
            told = loaded[0](seen.store, name)
        return Looks(folder.name, told.note, told.words, told.patches)

    return looks


def _images(seen: "Viewed") -> "Picture":
    """Return what gives an image as the model saw it, from the data set, as WebP."""
    from relope.steps.pictures import data_images

    samples, lock = seen.store.samples, threading.Lock()
    from_data = data_images(seen.store, seen.board.samples["split"].unique().to_list())

    def image(row: int, which: int) -> bytes | None:
        with lock:  # the data set is read once, and its archives are no place for several threads
            picture = from_data(samples.row(row, named=True), which)
            return None if picture is None else _webp(picture)

    return image


def _webp(image: "Image") -> bytes:
    shown, buffer = image.convert("RGB"), io.BytesIO()
    shown.thumbnail((_SIDE, _SIDE))
    shown.save(buffer, "WEBP", lossless=max(shown.size) < _LITTLE, quality=88)
    return buffer.getvalue()


def _said_before(seen: "Viewed") -> "dict[Side, dict[str, bool | None]]":
    """Return what people have said of each model's answers so far."""
    from relope.store.grades import read_grades
    from relope.store.labels import LABELS, has_labels, said_by_people

    sides = {"small": seen.store, "large": seen.large}
    return {
        side: said_by_people(read_grades(store, LABELS).table)  # type: ignore[misc]
        for side, store in sides.items()
        if store is not None and has_labels(store)
    }


def _saver(seen: "Viewed") -> "Save":
    """Return what keeps a correction, as ``human@1`` of that model's store.

    The other model's store gets grades of that name too, since two models are only compared by one grader.
    """
    from relope.store.grade_files import Grades
    from relope.store.labels import correct_by_hand, has_labels, write_labels

    def keep(side: str, said: dict[str, bool | None]) -> None:
        store, graded = seen.store if side == "small" or seen.large is None else seen.large, seen.grades[side]
        if isinstance(graded, Grades):
            correct_by_hand(store, graded, said)
            return
        unjudged = store.samples.select("id", "split").with_columns(
            pl.lit(None, pl.Boolean).alias("correct"), *(pl.lit("").alias(name) for name in ("parsed", "parse_status"))
        )
        path, _, _ = write_labels(store, said, unjudged)
        store.save(f"{path.parent.name}/{path.name}")

    def save(side: str, name: str, correct: bool | None) -> None:
        keep(side, {name: correct})
        other = "large" if side == "small" else "small"
        store = seen.large if other == "large" else seen.store
        if store is not None and seen.grades.get(other) is not None and not has_labels(store):
            keep(other, {})

    return save


STEP = Step(run, output, version=1)
