"""Which data sets may be written as records: small, public, and free to be kept in another form."""

from typing import NamedTuple


class About(NamedTuple):
    """What goes into dataset_info.json beside the counts."""

    citation: str
    licence: str


SMALL = {  # less than a gigabyte as published, and fetched by anybody
    "vqa_rad": About(
        "Lau, Gayen, Ben Abacha and Demner-Fushman: A dataset of clinically generated visual "
        "questions and answers about radiology images. Scientific Data 5, 180251 (2018), "
        "doi:10.1038/sdata.2018.251",
        "CC0 1.0, as its OSF record (osf.io/89kps) states",
    ),
    "slake": About(
        "Liu, Zhan, Xu, Ma, Yang and Wu: SLAKE: A semantically-labeled knowledge-enhanced dataset "
        "for medical visual question answering. ISBI 2021, arXiv:2102.09542",
        "CC BY 4.0",
    ),
    "pathvqa": About(
        "He, Zhang, Mou, Xing and Xie: PathVQA: 30000+ questions for medical visual question "
        "answering (2020), arXiv:2003.10286",
        "MIT as its authors declare; the pictures are from textbooks and a digital library",
    ),
    "vqa_med": About(
        "Ben Abacha, Hasan, Datla, Liu, Demner-Fushman and Müller: VQA-Med: Overview of the medical"
        " visual question answering task at ImageCLEF 2019. CLEF 2019 Working Notes",
        "as the release that was fetched states (2019: zenodo.org/records/10499039)",
    ),
    "medexpqa": About(
        "Alonso, Oronoz and Agerri: MedExpQA: Multilingual benchmarking of large language models "
        "for medical question answering (2024), arXiv:2404.05590",
        "CC BY 4.0",
    ),
    "mediqa_m3g": About(
        "Yim, Ben Abacha, Fu, Sun, Xia, Yetisgen and Krallinger: Overview of the MEDIQA-M3G 2024 "
        "shared task on multilingual multimodal medical answer generation. ClinicalNLP 2024",
        "as the release that was fetched states",
    ),
}

IN_PLACE = {  # why no copy is made of the others
    "phantom": "it is drawn from seeds and kept as records in data.cache already",
    "roco": "it is large",
    "clef": "it is large",
    "medicat": "it is large",
    "mimic_cxr": "who may read it has signed for it, and it is large",
    "iu_xray": "it is large",
    "folder": "whose it is and what it allows is not known here",
    "pefomed": "whose it is and what it allows is not known here",
}
