#!/usr/bin/env python3
"""Checks a folder that `tune publish` made with the tools of the formats in it.

    python validate.py FOLDER --public-key KEY.pub

Prints a line for each check and exits with 1 where one fails. Needs requirements.txt.
"""

import argparse
import base64
import io
import json
import pathlib
import subprocess
import sys


def signature(folder, key):
    """OpenSSF model signature: model-signing's own client."""
    command = [sys.executable, "-m", "model_signing", "verify", "key", "--public_key", str(key)]
    command += ["--signature", str(folder / "model.sig"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def cyclonedx(folder):
    """CycloneDX: strict JSON Schema validation."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str((folder / "bom.cdx.json").read_text())
    assert problem is None, problem


def in_toto(folder):
    """in-toto: the statements parse as the protocol's types, and digests and predicates are there."""
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    def parse(text):
        message = json_format.Parse(text, statement_pb2.Statement())
        Statement.copy_from_pb(message).validate()
        predicate = json_format.MessageToDict(message.predicate)
        json_format.ParseDict(predicate, provenance_pb2.Provenance())
        return message

    plain = parse((folder / "provenance.json").read_text())
    lines = (folder / "provenance.intoto.jsonl").read_text().splitlines()
    signed = [parse(base64.b64decode(json.loads(line)["payload"])) for line in lines]
    assert signed == [plain], "the signed statement is not the plain one"


def spdx(folder):
    """SPDX 3.0.1: the model's own classes, generated from its SHACL shapes, take the document."""
    from spdx_python_model import v3_0_1 as model

    text = (folder / "model.spdx3.json").read_bytes()
    objects = model.SHACLObjectSet()
    model.JSONLDDeserializer().read(io.BytesIO(text), objects)
    unresolved = objects.link()
    assert not unresolved, unresolved
    packages = list(objects.foreach_type("ai_AIPackage")) + list(objects.foreach_type("dataset_DatasetPackage"))
    relations = list(objects.foreach_type("Relationship"))
    assert len(packages) >= 3, packages
    for package in packages:
        for kind in ("hasDeclaredLicense", "hasConcludedLicense"):
            found = [one for one in relations if one.from_ is package and one.relationshipType.endswith(kind)]
            assert len(found) == 1, (package.name, kind, len(found))


def croissant(folder):
    """Croissant: mlcroissant reads the metadata without an error."""
    import mlcroissant

    files = sorted((folder / "croissant").iterdir())
    assert files
    for path in files:
        dataset = mlcroissant.Dataset(jsonld=str(path))
        issues = dataset.metadata.ctx.issues
        assert not issues.errors, issues.report()


def mof(folder):
    """Model Openness Framework: names, members and values that the Model Openness Tool takes, in a schema of our own."""
    import jsonschema
    import yaml

    text = {"type": "string", "minLength": 1}
    licence = {"type": "object", "properties": {"name": text, "path": text}, "required": ["name"]}
    kinds = ["language", "vision", "image", "audio", "video", "3d", "code", "multimodal", "other"]
    architectures = ["transformer", "transformer decoder", "transformer encoder-decoder", "decoder", "encoder", "other"]
    names = """Model architecture|Model parameters (Final)|Technical report|Evaluation results|Model card|Data card|Sample model
        outputs|Training code|Inference code|Evaluation code|Evaluation data|Supporting libraries and tools|Datasets|Data
        preprocessing code|Model parameters (Intermediate)|Research paper|Model metadata"""
    component = {name: text for name in ("description", "license", "license_path", "component_path")}
    component["name"] = {"enum": [" ".join(name.split()) for name in names.split("|")]}
    release = {
        "name": text,
        "version": text,
        "date": {"type": "string", "format": "date"},
        "license": {
            "type": "object",
            "properties": {kind: licence for kind in ("distribution", "code", "data", "document")},
            "additionalProperties": False,
        },
        "type": {"enum": kinds},
        "architecture": {"enum": architectures},
        "treatment": {"enum": ["pre-trained", "instruct fine-tuned", "chat fine-tuned"]},
        "origin": text,
        "producer": text,
        "contact": text,
        "components": {
            "type": "array",
            "maxItems": 17,
            "items": {
                "type": "object",
                "properties": component,
                "required": ["name", "license"],
                "additionalProperties": False,
            },
        },
    }
    framework = {
        "name": {"const": "Model Openness Framework"},
        "version": {"const": "1.0"},
        "date": {"const": "2024-12-15"},
    }
    required = ["name", "license", "producer", "components"]
    schema = {
        "type": "object",
        "required": ["framework", "release"],
        "properties": {
            "framework": {"type": "object", "properties": framework, "required": list(framework)},
            "release": {"type": "object", "properties": release, "required": required, "additionalProperties": False},
        },
    }
    # As the tool reads it: a date is text.
    loader = yaml.SafeLoader
    loader.yaml_implicit_resolvers = {
        key: [(tag, expression) for tag, expression in found if tag != "tag:yaml.org,2002:timestamp"]
        for key, found in loader.yaml_implicit_resolvers.items()
    }
    document = yaml.load((folder / "MOF.yml").read_text(), Loader=loader)
    jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())


def model_card(folder):
    """Model card: huggingface_hub reads the front matter and its evaluation results."""
    from huggingface_hub import ModelCard

    card = ModelCard.load(folder / "README.md")
    assert card.data.license and card.data.pipeline_tag == "text-generation", card.data
    assert card.data.eval_results, "no results"
    for result in card.data.eval_results:
        assert result.task_type == "text-generation" and result.metric_value is not None, result


def canonical(folder):
    """RFC 8785: manifest and chain are the bytes that another implementation gives."""
    import rfc8785

    manifest = (folder / "run/manifest.json").read_bytes()
    assert rfc8785.dumps(json.loads(manifest)) == manifest
    for line in (folder / "run/chain.jsonl").read_bytes().splitlines():
        assert rfc8785.dumps(json.loads(line)) == line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--public-key", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    failed = False
    for check in (signature, cyclonedx, in_toto, spdx, croissant, mof, model_card, canonical):
        extra = (arguments.public_key,) if check is signature else ()
        try:
            check(arguments.folder, *extra)
            print(f"ok      {check.__name__}")
        except Exception as error:
            failed = True
            print(f"FAILED  {check.__name__}: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
