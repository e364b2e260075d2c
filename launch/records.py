"""Write a small public data set as records: a few files in place of thousands.

python launch/records.py --config=configs/vqa.py:tiny,data=vqa_rad \\
    --config.data.dir=path/to/VQA-RAD --out=vqa_rad_records
python launch/train.py --config=configs/vqa.py:tiny,data=vqa_rad \\
    --config.data.dir=vqa_rad_records      # the same run as from the folder

For vqa_rad, slake, pathvqa, vqa_med, medexpqa and mediqa_m3g. Large and credentialed sets are read
in place; no copy of them is made. Records are a convenience: every set trains from its folder too.

--config=FILE:PRESET,data=SOURCE   configs/vqa.py
--config.data.dir=FOLDER           where the set lies
--out=FOLDER                       an empty folder, a new one, or one of this set: what was killed
                                   begins anew, what is finished is checked and left as it is
--config.data.max_bad_fraction=X   leave out rows that cannot be used, up to this share of all; they
                                   are listed in OUT/bad_rows.jsonl
--config.data.SOURCE.FIELD=VALUE   choices of the set; the records keep them
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from pefomed_jax import cli
from pefomed_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "the config: FILE[:PRESET,data=SOURCE]")
OUT = flags.DEFINE_string("out", "", "the folder of records")


def main() -> int:
    if CONFIG.value is None:
        raise UserError("--config is needed: try --config=configs/vqa.py:tiny,data=vqa_rad")
    if not OUT.value:
        raise UserError("--out is needed: try --out=records")
    # imported late: a wrong flag should not wait for TFDS
    from pefomed_jax.data.records import write
    from pefomed_jax.validate import validate

    validate(CONFIG.value)
    write.write(CONFIG.value, pathlib.Path(OUT.value).expanduser())
    return 0


if __name__ == "__main__":
    cli.run(main)
