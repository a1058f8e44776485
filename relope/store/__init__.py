"""Hidden states on disk: a Zarr v3 group made of sealed parts.

`create_or_open` writes, `open_store` reads, `verify` looks for damage.
"""

from relope.store.convert import convert
from relope.store.format.batches import RaggedBatch
from relope.store.format.block import (
    BLOCK_FILES,
    check_block,
    has_block,
    is_sealed_block,
    shared_otherwise,
    without_origin,
    write_block,
)
from relope.store.format.catalog import Catalog
from relope.store.format.codec import CODECS
from relope.store.format.content import content_id, sample_content
from relope.store.format.dtypes import from_float32, stored_dtype, to_float32
from relope.store.format.identity import Identity
from relope.store.format.index import Rows
from relope.store.format.layout import (
    block_folder,
    catalog_folder,
    part_folder,
    part_id,
    plan_path,
    read_object,
    sealed_parts,
    write_object,
)
from relope.store.format.manifest import FORMAT_VERSION, StoreManifest, no_states, read_manifest
from relope.store.format.part import PartWriter
from relope.store.format.samples import read_samples
from relope.store.format.thumbnails import THUMBNAIL_BYTES
from relope.store.grade_names import grades_path
from relope.store.info import human_bytes, info, info_rows
from relope.store.open import open_store
from relope.store.reader import ActivationStore
from relope.store.rows import RowReader
from relope.store.union import FREE, StoreUnion
from relope.store.verify import Problem, undigested, verify
from relope.store.writer import StoreWriter, check_output, check_recipe, create_or_open

__all__ = [
    "BLOCK_FILES",
    "CODECS",
    "FORMAT_VERSION",
    "FREE",
    "THUMBNAIL_BYTES",
    "ActivationStore",
    "Catalog",
    "Identity",
    "PartWriter",
    "Problem",
    "RaggedBatch",
    "RowReader",
    "Rows",
    "StoreManifest",
    "StoreUnion",
    "StoreWriter",
    "block_folder",
    "catalog_folder",
    "check_block",
    "check_output",
    "check_recipe",
    "content_id",
    "convert",
    "create_or_open",
    "from_float32",
    "grades_path",
    "has_block",
    "human_bytes",
    "info",
    "info_rows",
    "is_sealed_block",
    "no_states",
    "open_store",
    "part_folder",
    "part_id",
    "plan_path",
    "read_manifest",
    "read_object",
    "read_samples",
    "sample_content",
    "sealed_parts",
    "shared_otherwise",
    "stored_dtype",
    "to_float32",
    "undigested",
    "verify",
    "without_origin",
    "write_block",
    "write_object",
]
