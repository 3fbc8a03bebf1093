"""Small text records of 1 to 8 KB: HL7 version 2, FHIR, PDF-like and plain notes."""

import json
import zlib
from collections.abc import Callable, Mapping
from random import Random

_WORDS = """
lung nodule apical left right lobe pleural effusion small moderate unchanged compared prior
examination contrast enhanced axial coronal reformats no evidence of acute fracture mild
degenerative change lumbar spine vertebral height preserved liver spleen kidneys normal size
attenuation lymph node enlarged short axis mm recommend follow up in three months patient reports
improvement denies pain fever cough medication continued dose adjusted blood pressure stable heart
rate regular wound clean dry discharged home clinic review scheduled haemoglobin creatinine
potassium sodium glucose within range elevated repeat sample haemolysed
""".split()  # noqa: SIM905 - a list of single words would be eighty lines
_CODES = ("718-7", "2160-0", "2823-3", "2951-2", "2345-7", "6690-2", "777-3", "1742-6")  # LOINC


def prose(random: Random, words: int) -> str:
    """Return sentences of clinical words, in lines of about a dozen."""
    chosen = random.choices(_WORDS, k=words)
    lines = (" ".join(chosen[at : at + 12]) for at in range(0, words, 12))
    return ".\n".join(line.capitalize() for line in lines) + ".\n"


def _hl7(random: Random, patient: str, date: str) -> bytes:
    control, clock = random.getrandbits(48), random.randrange(240000)
    segments = [
        f"MSH|^~\\&|LAB|HOSPITAL|EMR|HOSPITAL|{date}{clock:06}||ORU^R01|{control}|P|2.5.1",
        f"PID|1||{patient}^^^HOSPITAL^MR||SYNTHETIC^{random.randrange(10**6)}||19500101|U",
        f"OBR|1|{random.getrandbits(40)}|{random.getrandbits(40)}|24323-8^CMP^LN|||{date}",
    ]
    for number in range(1, random.randrange(8, 60)):
        value = random.randrange(1, 9999) / 10
        code = random.choice(_CODES)
        segments.append(f"OBX|{number}|NM|{code}^{code}^LN||{value}|mmol/L|3.5-5.1|N|||F|||{date}")
    segments.append(f"NTE|1|L|{prose(random, random.randrange(20, 120))}".replace("\n", "~"))
    return "\r".join(segments).encode() + b"\r"


def _fhir(random: Random, patient: str, date: str) -> bytes:
    entries = [
        {
            "resource": {
                "resourceType": "Observation",
                "id": f"{random.getrandbits(64):016x}",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": random.choice(_CODES)}]},
                "subject": {"reference": f"Patient/{patient}"},
                "effectiveDateTime": f"{date[:4]}-{date[4:6]}-{date[6:]}",
                "valueQuantity": {"value": random.randrange(1, 9999) / 10, "unit": "mmol/L"},
            }
        }
        for _ in range(random.randrange(2, 14))
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "document",
        "text": prose(random, random.randrange(30, 150)),
        "entry": entries,
    }
    return json.dumps(bundle, indent=1).encode()


def _pdf(random: Random, patient: str, date: str) -> bytes:
    """Return a document of one Flate-compressed page, as a reporting system files it."""
    text = f"BT /F1 11 Tf 72 770 Td ({patient} {date}) Tj {prose(random, 1200)} ET"
    page = zlib.compress(text.encode(), 6)
    font = random.randbytes(random.randrange(200, 3000))  # an embedded subset: incompressible
    return b"".join(
        (
            b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n",
            b"2 0 obj\n<< /Type /Pages /Kids [3 0 R] /Count 1 >>\nendobj\n",
            b"4 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(page),
            page + b"\nendstream\nendobj\n",
            b"5 0 obj\n<< /Length %d >>\nstream\n" % len(font),
            font + b"\nendstream\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n",
        )
    )


def _note(random: Random, patient: str, date: str) -> bytes:
    heading = f"SYNTHETIC NOTE\nPatient {patient}\nDate {date}\n\n"
    return (heading + prose(random, random.randrange(150, 1000))).encode()


MAKERS: Mapping[str, Callable[[Random, str, str], bytes]] = {
    "hl7": _hl7,
    "json": _fhir,
    "pdf": _pdf,
    "txt": _note,
}


def addendum(random: Random, date: str) -> bytes:
    """Return what a colleague adds to a record the day after."""
    return f"\nADDENDUM {date}\n{prose(random, random.randrange(20, 80))}".encode()
