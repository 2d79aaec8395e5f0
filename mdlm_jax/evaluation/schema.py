"""As much of JSON Schema (2020-12) as report.schema.json is made of: what breaks it, and where. No jax."""

import json
import math
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads(
    Path(__file__).with_name("report.schema.json").read_text(encoding="utf-8")
)
KINDS: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None),
    "number": (int, float), "integer": int,
}  # fmt: skip
KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "type", "properties", "required",
    "additionalProperties", "items", "minItems", "maxItems", "allOf", "anyOf", "enum", "const",
}  # fmt: skip


def mistakes(value: Any, schema: dict[str, Any] = SCHEMA, where: str = "$") -> list[str]:
    """What breaks the schema, a line each, the place first ("$.run.seed: ..."); [] where nothing does.

    Raises ValueError for a schema that is made of more than KNOWN.
    """
    if not schema.keys() <= KNOWN:
        raise ValueError(f"{where}: a schema with {', '.join(sorted(schema.keys() - KNOWN))}")
    if "$ref" in schema:
        return mistakes(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], where)
    if "allOf" in schema:
        return [fault for one in schema["allOf"] for fault in mistakes(value, one, where)]
    if "anyOf" in schema:
        tried = [mistakes(value, one, where) for one in schema["anyOf"]]
        return [] if any(not found for found in tried) else min(tried, key=len)
    if "enum" in schema or "const" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return [] if value in allowed else [f"{where}: {value!r:.40} is none of {allowed}"]
    kind = KINDS[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return [f"{where}: {value!r:.40} is no {schema['type']}"]
    found = []
    if isinstance(value, dict):
        named, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        found += [f"{where}: no {name}" for name in schema.get("required", []) if name not in value]
        for name, one in value.items():
            if name in named or isinstance(rest, dict):
                found += mistakes(one, named.get(name, rest), f"{where}.{name}")
            elif not rest:
                found.append(f"{where}: {name} is not in the schema")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            found.append(f"{where}: {len(value)} items")
        found += [x for i, one in enumerate(value) for x in mistakes(one, schema["items"], f"{where}[{i}]")]
    return found
