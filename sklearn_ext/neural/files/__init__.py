"""Files: named tensors, their fields in JSON, and atomic writing."""

from ._drafts import (
    locked_folder as locked_folder,
    replacing as replacing,
    synchronize as synchronize,
)
from ._fields import (
    Check as Check,
    boolean as boolean,
    checked_fields as checked_fields,
    integer as integer,
    items as items,
    labels as labels,
    labels_as_json as labels_as_json,
    mapping_of as mapping_of,
    number as number,
    one_of as one_of,
    optional as optional,
    parse_json as parse_json,
    text as text,
)
from ._fingerprint import fingerprint as fingerprint
from ._name_patterns import matches_name as matches_name
from ._names import (
    KeyMap as KeyMap,
    matched_tensors as matched_tensors,
    names_of_tensors as names_of_tensors,
)
from ._sources import (
    is_checkpoint_folder as is_checkpoint_folder,
    is_source as is_source,
)
from ._tensors import (
    LazyTensors as LazyTensors,
    load_tensors as load_tensors,
    read_file as read_file,
    save_tensors as save_tensors,
    write_tensors as write_tensors,
)
