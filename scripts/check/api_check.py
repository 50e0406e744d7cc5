#!/usr/bin/python3
"""Checks scripts/api/openapi.yaml and asyncapi.yaml, for api_check.sh.

usage: api_check.py [--openapi-schema FILE] [--asyncapi-schema FILE]
                    [--source DIRECTORY]

- Each is as its specification's own JSON Schema has it, if that is given.
- References lead somewhere, nothing lies unused, schemas are schemas and have
  no words that mean nothing, names that are required are there.
- Each example is as its schema has it, and each JSON text has one.
- They say what the source says: codes, statuses, names, limits, the version.
- They agree with each other.

Then it breaks copies of them, one thing at a time, and expects to find each.
"""
import argparse
import json
import os
import re
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts", "api"))

import jsonschema  # noqa: E402

from documents import Mismatch, both, changed  # noqa: E402

# --- schemas -----------------------------------------------------------------

# What may stand in a schema here; anything else is taken for a typing error,
# as JSON Schema ignores what it does not know.
WORDS = {"$ref", "type", "const", "enum", "properties", "required", "items",
         "minItems", "maxItems", "minimum", "maximum", "minLength", "maxLength",
         "pattern", "oneOf", "dependencies", "default", "description", "format",
         "additionalProperties"}


def schemas_of(tree, where=()):
    """All schemas that stand by themselves, as (place, schema)."""
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
    if not isinstance(tree, dict):
        return
    for name, value in tree.items():
        place = where + (name,)
        if name in ("example", "examples"):
            continue
        if name in ("schema", "payload") or (
                name in ("query", "headers") and where[-1:] == ("ws",)):
            yield place, value
        elif name in ("schemas", "x-events"):
            for inner, schema in value.items():
                yield place + (inner,), schema
        else:
            yield from schemas_of(value, place)


def parts_of(schema):
    """A schema, and those within it."""
    yield schema
    inner = list(schema.get("properties", {}).values())
    inner += schema.get("oneOf", [])
    inner += [schema[name] for name in ("items", "additionalProperties")
              if isinstance(schema.get(name), dict)]
    for one in inner:
        yield from parts_of(one)


def check_schema(document, schema):
    """What is wrong with a schema."""
    try:
        document.dialect.check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        yield error.message
        return
    for part in parts_of(schema):
        for word in sorted(set(part) - WORDS):
            yield f"{word!r} is no word of a schema"
        for name in part.get("required", []):
            if name not in part.get("properties", {}):
                yield f"{name!r} is required, but not described"


def mismatch(document, schema, value, what):
    """What is wrong with a value, as a list of up to one line."""
    try:
        document.check(schema, value, what)
        return []
    except Mismatch as error:
        return [str(error)]


# --- what both kinds must have -----------------------------------------------


def references_of(tree):
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
    if isinstance(tree, dict):
        if isinstance(tree.get("$ref"), str):
            yield tree["$ref"]
        for name, value in tree.items():
            if name not in ("example", "examples"):
                yield from references_of(value)


def check_references(document):
    used = set(references_of(document.tree))
    for reference in sorted(used):
        try:
            document.at(reference)
        except Mismatch as error:
            yield str(error)
    for kind, members in document.tree["components"].items():
        for name, value in members.items():
            if kind not in ("securitySchemes", "x-close-codes") and not (
                    isinstance(value, dict) and value.get("x-any-response")
            ) and f"#/components/{kind}/{name}" not in used:
                yield f"#/components/{kind}/{name} is not used"


def check_schemas(document):
    for place, schema in schemas_of(document.tree):
        for text in check_schema(document, schema):
            yield f"{'/'.join(map(str, place))}: {text}"


def check_defaults(document):
    for place, schema in schemas_of(document.tree):
        for part in parts_of(schema):
            if "default" in part:
                yield from mismatch(document, part, part["default"],
                                    "/".join(map(str, place)))


def check_specification(document, schema):
    """Holds the document against the specification's JSON Schema."""
    dialect = jsonschema.validators.validator_for(schema)
    for error in dialect(schema).iter_errors(document.tree):
        deepest = jsonschema.exceptions.best_match([error])
        where = "/".join(map(str, deepest.absolute_path))
        yield f"specification: {where}: {deepest.message:.300}"


# --- OpenAPI -----------------------------------------------------------------


def examples_of(node):
    """The values of `example` and `examples`."""
    values = [example["value"] for example in node.get("examples", {}).values()]
    return values + ([node["example"]] if "example" in node else [])


def carriers_of(tree, where=()):
    """All that has a schema and may have examples of it: parameters, headers,
    media types."""
    if isinstance(tree, list):
        tree = dict(enumerate(tree))
    if isinstance(tree, dict):
        if "schema" in tree:
            yield "/".join(map(str, where)), tree
        for name, value in tree.items():
            if name != "schemas":
                yield from carriers_of(value, where + (name,))


def check_openapi_examples(document):
    for place, carrier in carriers_of(document.tree):
        values = examples_of(carrier)
        if "/content/" in place and not values:
            yield f"{place}: there is no example"
        for value in values:
            yield from mismatch(document, carrier["schema"], value, place)


def check_operations(document):
    schemes = document.tree["components"]["securitySchemes"]
    ids = [operation["operationId"]
           for _, _, operation in document.operations()]
    used = set()
    for name in sorted({name for name in ids if ids.count(name) > 1}):
        yield f"operationId {name} is not unique"
    for path, method, operation in document.operations():
        item = document.tree["paths"][path]
        parameters = [document.follow(parameter)
                      for holder in (item, operation)
                      for parameter in holder.get("parameters", [])]
        in_path = {parameter["name"] for parameter in parameters
                   if parameter["in"] == "path"}
        if in_path != set(re.findall(r"\{(\w+)\}", path)):
            yield f"{method} {path}: parameters of the path: {in_path}"
        if "security" not in operation:
            yield f"{method} {path}: nothing is said of security"
        for name in {name for choice in operation.get("security", [])
                     for name in choice}:
            used.add(name)
            if name not in schemes:
                yield f"{method} {path}: there is no security scheme {name}"
        default = operation["responses"].get("default")
        if default is None or document.follow(default) is not (
                document.any_request()):
            yield f"{method} {path}: default must be AnyRequest"
    for name in sorted(set(schemes) - used):
        yield f"security scheme {name} is not used"


# --- AsyncAPI ----------------------------------------------------------------


def check_asyncapi_examples(document):
    for channel in document.tree["channels"]:
        for name in document.tree["channels"][channel]["messages"]:
            payload = document.payload(channel, name)
            examples = document.examples(channel, name)
            if not examples:
                yield f"{channel}: {name}: there is no example"
            for value in examples:
                yield from mismatch(document, payload, value,
                                    f"{channel}: {name}")


def check_channel(document, name):
    channel = document.tree["channels"][name]
    commands = document.from_clients(name)
    events = document.from_server(name)
    for message in channel["messages"]:
        if message not in commands + events:
            yield f"{name}: no operation has message {message}"
    for names in (commands, events):
        kinds = [document.type_of(name, message) for message in names]
        if len(set(kinds)) != len(kinds):
            yield f"{name}: types are not unique: {kinds}"
    if document.subprotocol(name) is None:
        return
    for message in channel["messages"]:
        if document.type_of(name, message) != message:
            yield f"{name}: the type of {message} is another"
    for command in commands:
        if "error" not in document.answers_to(name, command):
            yield f"{name}: {command} cannot fail"


def check_channels(document):
    for operation in document.tree["operations"].values():
        channel = operation["channel"]["$ref"]
        for message in (operation["messages"]
                        + operation.get("reply", {}).get("messages", [])):
            if not message["$ref"].startswith(channel + "/messages/"):
                yield f"{message['$ref']} is not of {channel}"
    for name in document.tree["channels"]:
        yield from check_channel(document, name)


# --- what the source says ----------------------------------------------------


class Source:
    """Facts read from the C files below a directory."""

    def __init__(self, directory):
        self.files = {}
        for folder, _, names in os.walk(directory):
            for name in names:
                if name.endswith((".c", ".h")):
                    path = os.path.join(folder, name)
                    with open(path, encoding="utf-8") as text:
                        self.files[os.path.relpath(path, directory)] = \
                            text.read()

    def table(self, name, macro):
        """The text of `#define macro(X)`, a table of X(…)."""
        found = re.search(rf"#define {macro}\(X\)((?:.*\\\n)*.*\n)",
                          self.files.get(name, ""))
        if not found:
            raise Mismatch(f"src/{name} has no table {macro}")
        return found.group(1)

    def number(self, name, macro):
        found = re.search(rf"#define {macro}\s+(\d+)\b",
                          self.files.get(name, ""))
        if not found:
            raise Mismatch(f"src/{name} has no number {macro}")
        return int(found.group(1))

    def error_codes(self):
        return set(re.findall(r"X\((\w+), ",
                              self.table("codec/v1_codec.h", "V1_ERRORS")))

    def statuses(self):
        return set(re.findall(r"X\((\d+), ", self.table(
            "codec/http/status.h", "HTTP_STATUSES")))

    def close_codes(self):
        """The close codes of all reasons; each has a name of an enum."""
        names = {name: int(code) for file in ("codec/websocket.h",
                                              "stats/close_reasons.h")
                 for name, code in re.findall(r"\b([A-Z]\w+) = (\d{4}),",
                                              self.files.get(file, ""))}
        used = set(re.findall(r"X\(\w+,\s+(?:0|(\w+)),",
                              self.table("stats/close_reasons.h", "CLOSE_REASONS"))) - {""}
        if not used <= names.keys():
            raise Mismatch(f"no number for {sorted(used - names.keys())}")
        return {names[name] for name in used}

    def subprotocols(self):
        """All versions of it that any file names."""
        return set(re.findall(r"\bisimud\.v\d+\b",
                              "\n".join(self.files.values())))

    def version(self):
        return re.search(r'#define VERSION "(.*)"',
                         self.files["base/version.h"]).group(1)


def differ(what, documented, found):
    if documented == found:
        return []
    if isinstance(found, set):
        return [f"{what}: only in the document: "
                f"{sorted(documented - found)}, only in the source: "
                f"{sorted(found - documented)}"]
    return [f"{what}: {documented!r} in the document, {found!r} in the source"]


# isimud.v1 has a message for what ends a raw WebSocket with the one, and tells
# by Close what refuses the handshake of a raw one with a status.
OF_ANOTHER = {"raw": {4401, 4403, 4408}, "v1": {4410}}


def check_source(openapi, asyncapi, source):
    codes = asyncapi.error_codes()
    yield from differ("error codes", set(codes), source.error_codes())
    yield from differ("statuses", openapi.statuses(), source.statuses())
    for channel in asyncapi.tree["channels"]:
        found = source.close_codes() - OF_ANOTHER.get(channel, set())
        yield from differ(f"close codes of {channel}",
                          asyncapi.close_codes(channel), found)
    close = openapi.tree["components"]["schemas"]["Close"]["properties"]["code"]
    if not set(close["enum"]) <= source.close_codes():
        yield f"event close: {close['enum']} are not all in the source"
    named = {asyncapi.subprotocol(channel)
             for channel in asyncapi.tree["channels"]} - {None}
    yield from differ("subprotocols", named, source.subprotocols())
    # As JSON text a string has two quotes.
    yield from differ("longest ref",
                      asyncapi.tree["components"]["schemas"]["Ref"][
                          "maxLength"] + 2,
                      source.number("codec/v1_codec.h", "V1_REF_MAX_BYTES"))
    for document in (openapi, asyncapi):
        yield from differ(f"{document.file}: version",
                          document.tree["info"]["version"], source.version())


def plain(document, schema):
    """A schema with references followed and descriptions left out, so that
    those of two documents can be compared."""
    schema = document.follow(schema)
    if isinstance(schema, list):
        return [plain(document, item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: plain(document, value) for name, value in schema.items()
            if name != "description" or isinstance(value, dict)}


def check_agreement(openapi, asyncapi):
    for name in ("Id", "Cursor", "Message"):
        reference = {"$ref": f"#/components/schemas/{name}"}
        if plain(openapi, reference) != plain(asyncapi, reference):
            yield f"{name} is not the same in both documents"


# --- all of it ---------------------------------------------------------------


class Check:
    """Everything that is checked. A specification's schema may be None."""

    def __init__(self, openapi_schema, asyncapi_schema, source):
        self.openapi_schema = openapi_schema
        self.asyncapi_schema = asyncapi_schema
        self.source = source

    def stages(self, openapi, asyncapi, source):
        """What is wrong, in steps, each of which relies on the ones before."""
        pair = ((openapi, self.openapi_schema),
                (asyncapi, self.asyncapi_schema))
        yield [f"{document.file}: {text}" for document, schema in pair if schema
               for text in check_specification(document, schema)]
        yield [f"{document.file}: {text}" for document, _ in pair
               for check in (check_references, check_schemas)
               for text in check(document)]
        yield [f"{document.file}: {text}" for document, check in (
            (openapi, check_openapi_examples), (openapi, check_operations),
            (openapi, check_defaults), (asyncapi, check_defaults),
            (asyncapi, check_asyncapi_examples), (asyncapi, check_channels))
            for text in check(document)]
        yield [*check_source(openapi, asyncapi, source),
               *check_agreement(openapi, asyncapi)]

    def problems(self, openapi, asyncapi, source=None):
        """All that is wrong, a line each, as far as it can be told."""
        for found in self.stages(openapi, asyncapi, source or self.source):
            if found:
                return found
        return []


# --- is the check strict? ----------------------------------------------------

ANSWERS = ["paths", "/pub", "post", "responses"]
OK = ANSWERS + ["200", "content", "application/json"]
SCHEMAS = ["components", "schemas"]

# (place, value or None to remove, what must be said)
OPENAPI_FAULTS = [
    (["paths", "/pub", "post", "requestBdy"], {}, "requestBdy"),
    (["paths", "/sub", "get", "parameters", 0, "in"], "url", "specification"),
    (["info", "version"], None, "'version' is a required"),
    (ANSWERS + ["2000"], {"description": "x"}, "2000"),
]
OPENAPI_FAULTS_OF_OURS = [
    (ANSWERS + ["400", "$ref"], "#/components/responses/Nope", "no such thing"),
    (SCHEMAS + ["Spare"], {"type": "string"}, "Spare is not used"),
    (SCHEMAS + ["Receipt", "type"], "objekt", "objekt"),
    (SCHEMAS + ["Receipt", "requird"], ["id"], "'requird' is no word"),
    (SCHEMAS + ["Receipt", "required"], ["idd"], "'idd' is required"),
    (SCHEMAS + ["Receipt", "properties", "id"], None, "required, but not"),
    (OK + ["examples", "one", "value", "id"], "44", "does not match"),
    (OK + ["examples", "one", "value", "more"], 1, "'more' was"),
    (OK + ["examples", "batch", "value", 0, "subscribers"], -1, "minimum"),
    (OK + ["examples"], None, "there is no example"),
    (["components", "parameters", "Origin", "example"], "x", "does not match"),
    (["components", "headers", "RetryAfter", "example"], "soon", "'soon'"),
    (["paths", "/topics", "get", "parameters", 1, "schema", "default"], 0,
     "less than the minimum"),
    (["paths", "/pub", "post", "operationId"], "subscribe", "not unique"),
    (["paths", "/topics/{topic}", "parameters"], [], "parameters of the path"),
    (["paths", "/pub", "post", "security"], [{"pasword": []}],
     "no security scheme pasword"),
    (["paths", "/pub", "post", "security"], None, "nothing is said"),
    (ANSWERS + ["default"], None, "default must be AnyRequest"),
    (ANSWERS + ["418"], {"description": "x"}, "only in the document: ['418']"),
    (["paths", "/sub", "get", "responses", "426"], None,
     "only in the source: ['426']"),
    (SCHEMAS + ["Close", "properties", "code", "enum", 0], 1000, "event close"),
    (SCHEMAS + ["Id", "pattern"], "^[0-9a-f]{16}-[0-9]+$", "Id is not"),
    (["info", "version"], "9.9.9", "version: '9.9.9'"),
]

V1 = ["channels", "v1"]
MESSAGES = ["components", "messages"]
ASYNCAPI_FAULTS = [
    (["channels", "v1", "adress"], "/sub", "specification"),
    (["operations", "ping", "action"], "publish", "specification"),
    (["info"], None, "'info' is a required"),
    (["components", "securitySchemes", "basic", "type"], "htp",
     "specification"),
    (MESSAGES + ["Pong", "examples", 0, "paylod"], {}, "specification"),
]
ASYNCAPI_FAULTS_OF_OURS = [
    (MESSAGES + ["Pong", "payload", "$ref"], "#/components/schemas/Pon",
     "no such thing"),
    (SCHEMAS + ["Spare"], {"type": "string"}, "Spare is not used"),
    (SCHEMAS + ["Gap", "type"], "objekt", "objekt"),
    (SCHEMAS + ["Gap", "propertys"], {}, "'propertys' is no word"),
    (SCHEMAS + ["Gap", "properties", "to"], None, "'to' is required"),
    (MESSAGES + ["Gap", "examples", 0, "payload", "to"], 310, "310 is not of"),
    (MESSAGES + ["Gap", "examples", 0, "payload", "too"], 1, "'too' was"),
    (MESSAGES + ["Ping", "examples", 0, "payload", "type"], "pong",
     "'ping' was"),
    (MESSAGES + ["Subscribe", "examples", 1, "payload", "since"], "41",
     "does not match"),
    (MESSAGES + ["Error", "examples", 0, "payload", "code"], "unknown",
     "is not one of"),
    (MESSAGES + ["Error", "examples"], None, "there is no example"),
    (["operations", "deliver", "messages"],
     [{"$ref": "#/channels/v1/messages/message"}],
     "no operation has message gap"),
    (["operations", "ping", "reply", "messages"],
     [{"$ref": "#/channels/v1/messages/pong"}], "ping cannot fail"),
    (["operations", "rawDeliver", "messages", 0, "$ref"],
     "#/channels/v1/messages/message", "is not of #/channels/raw"),
    (SCHEMAS + ["Pong", "properties", "type", "const"], "Pong", "'Pong' was"),
    (SCHEMAS + ["ErrorCode", "enum", 8], None, "only in the source: ['busy']"),
    (SCHEMAS + ["ErrorCode", "enum", 8], "buzy", "only in the document"),
    (SCHEMAS + ["Ref", "maxLength"], 128, "longest ref"),
    (["components", "x-close-codes", "1013"], None, "close codes of raw"),
    (["channels", "raw", "x-close-codes", 1, "4410"], None,
     "close codes of raw"),
    (["components", "x-close-codes", "4410"], "x", "close codes of v1"),
    (V1 + ["x-subprotocol"], "isimud.v2", "subprotocols"),
    (SCHEMAS + ["Message", "required", 4], None, "Message is not the same"),
    (["info", "version"], "9.9.9", "version: '9.9.9'"),
]

# (file, text, instead, what must be said)
SOURCE_FAULTS = [
    ("codec/v1_codec.h", "X(busy, ", "X(bussy, ", "only in the source: ['bussy']"),
    ("codec/v1_codec.h", "#define V1_ERRORS(X)", "#define ERRORS(X)",
     "has no table V1_ERRORS"),
    ("codec/http/status.h", "X(426, ", 'X(429, "") X(426, ',
     "only in the source: ['429']"),
    ("codec/websocket.h", "= 1013,", "= 1015,", "close codes"),
    ("codec/v1_codec.h", "isimud.v1", "isimud.v7", "subprotocols"),
]


def expect(faults, what, problems, text):
    """Notes in `faults` if `problems()` does not say `text`."""
    try:
        found = problems()
    except Mismatch as error:
        found = [str(error)]
    if not any(text in line for line in found):
        faults.append(f"not noticed: {what}: {text!r}; but: {found[:3]}")


def try_faults(check, openapi, asyncapi):
    """Returns (how many were tried, those that were not noticed)."""
    missed = []
    tried = 0
    for document, with_schema, faults in (
            (openapi, check.openapi_schema, OPENAPI_FAULTS),
            (openapi, True, OPENAPI_FAULTS_OF_OURS),
            (asyncapi, check.asyncapi_schema, ASYNCAPI_FAULTS),
            (asyncapi, True, ASYNCAPI_FAULTS_OF_OURS)):
        # Ours must be found by ours, whatever the specification says of it.
        strict = Check(None, None, check.source)
        for path, value, text in faults if with_schema else []:
            one = changed(document, path, value)
            pair = ((one, asyncapi) if document is openapi else (openapi, one))
            use = check if with_schema is not True else strict
            expect(missed, f"{document.file}: {path}",
                   lambda: use.problems(*pair), text)
            tried += 1
    for name, old, new, text in SOURCE_FAULTS:
        source = Source.__new__(Source)
        source.files = dict(check.source.files)
        if old not in source.files.get(name, ""):
            missed.append(f"src/{name} has no {old!r} to be broken")
            continue
        source.files[name] = source.files[name].replace(old, new)
        expect(missed, f"src/{name}: {old}",
               lambda: check.problems(openapi, asyncapi, source), text)
        tried += 1
    return tried, missed


# --- from the command line ---------------------------------------------------


def without_odd_ids(tree):
    """A JSON Schema without properties called $id, which jsonschema 4.10 takes
    for the keyword of that name."""
    if isinstance(tree, list):
        return [without_odd_ids(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    return {name: without_odd_ids(value) for name, value in tree.items()
            if name != "$id" or isinstance(value, str)}


def read_schema(path):
    if path is None:
        return None
    with open(path, encoding="utf-8") as text:
        return without_odd_ids(json.load(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openapi-schema", metavar="FILE")
    parser.add_argument("--asyncapi-schema", metavar="FILE")
    parser.add_argument("--source", metavar="DIRECTORY",
                        default=os.path.join(ROOT, "src"))
    arguments = parser.parse_args()
    check = Check(read_schema(arguments.openapi_schema),
                  read_schema(arguments.asyncapi_schema),
                  Source(arguments.source))
    openapi, asyncapi = both()
    try:
        found = check.problems(openapi, asyncapi)
    except Mismatch as error:
        found = [str(error)]
    for text in found:
        print(f"api_check: {text}", file=sys.stderr)
    if found:
        return 1
    tried, missed = try_faults(check, openapi, asyncapi)
    for text in missed:
        print(f"api_check: {text}", file=sys.stderr)
    if missed:
        return 1
    print(f"api_check: {len(list(openapi.operations()))} operations over HTTP, "
          f"{len(asyncapi.tree['operations'])} over WebSocket are as they "
          f"should be; {tried} faults were noticed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
