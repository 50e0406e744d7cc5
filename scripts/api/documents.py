"""Loads openapi.yaml and asyncapi.yaml, and holds values against them.

Used by scripts/check/api_check.py and by the integration tests. It needs python3-yaml
and python3-jsonschema (4.10 to 4.19) alone. Schemas are those of JSON Schema
2020-12 in OpenAPI 3.1, and of draft 07 in AsyncAPI 3.0.
"""
import copy
import json
import os
import re

import jsonschema
import yaml

HERE = os.path.dirname(os.path.abspath(__file__))


class Mismatch(AssertionError):
    """Something is not as the document says."""


# --- YAML --------------------------------------------------------------------


class Loader(yaml.SafeLoader):
    """As YAML 1.2 reads it: no dates, no yes and no; names are strings, and
    each is there once."""

    def construct_mapping(self, node, deep=False):
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        for name in names:
            if not isinstance(name, str) or names.count(name) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"name {name!r} is repeated or not a string",
                    node.start_mark)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:timestamp",
                           "tag:yaml.org,2002:bool")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()}
Loader.add_implicit_resolver("tag:yaml.org,2002:bool",
                             re.compile("^(?:true|false)$"), list("tf"))


def load(text):
    """The value of a YAML text, as JSON has it."""
    tree = yaml.load(text, Loader)
    return json.loads(json.dumps(tree))


# --- documents ---------------------------------------------------------------


def closed(tree):
    """A copy in which an object has no members but those that it names."""
    if isinstance(tree, list):
        return [closed(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    copied = {name: closed(value) for name, value in tree.items()}
    if copied.get("type") == "object" and "properties" in copied:
        copied.setdefault("additionalProperties", False)
    return copied


class Document:
    """What both kinds have in common. `file` is the name, `tree` the value."""
    file = None
    dialect = None  # jsonschema's class for its schemas

    def __init__(self, tree=None):
        if tree is None:
            with open(os.path.join(HERE, self.file), encoding="utf-8") as text:
                tree = load(text)
        self.tree = tree
        schemas = tree.get("components", {}).get("schemas", {})
        self.schemas = {False: schemas, True: closed(schemas)}

    def at(self, pointer):
        """What a reference within the document points to."""
        if not pointer.startswith("#/"):
            raise Mismatch(f"{pointer}: not within the document")
        node = self.tree
        for part in pointer[2:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            try:
                node = node[int(part)] if isinstance(node, list) else node[part]
            except (KeyError, IndexError, ValueError):
                raise Mismatch(f"{pointer}: there is no such thing") from None
        return node

    def follow(self, node):
        """`node`, or what it refers to."""
        while isinstance(node, dict) and isinstance(node.get("$ref"), str):
            node = self.at(node["$ref"])
        return node

    def check(self, schema, value, what, exact=True):
        """Raises Mismatch unless `value` is as `schema` has it. `exact`: and
        has no members that are not named. That is for what we make ourselves;
        what others make may have more."""
        root = {"allOf": [closed(schema) if exact else schema],
                "components": {"schemas": self.schemas[exact]}}
        error = jsonschema.exceptions.best_match(
            self.dialect(root).iter_errors(value))
        if error is not None:
            where = "/".join(map(str, error.absolute_path))
            raise Mismatch(f"{what}: {where}: {error.message}")


# --- OpenAPI -----------------------------------------------------------------

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def essence(media_type):
    """A media type without its parameters."""
    return media_type.partition(";")[0].strip().lower()


class OpenApi(Document):
    file = "openapi.yaml"
    dialect = jsonschema.Draft202012Validator
    # What every HTTP message has, or every one with content; the document is of
    # no use for these.
    FRAMING = {"date", "content-type", "content-length", "connection",
               "x-content-type-options"}

    def operations(self):
        """All of them, as (path, method, operation)."""
        return [(path, method, item[method])
                for path, item in self.tree["paths"].items()
                for method in METHODS if method in item]

    def any_request(self):
        """The response that every request may get, whatever it asks for."""
        return self.tree["components"]["responses"]["AnyRequest"]

    def response(self, path, method, status):
        """The response object for a status; `path` None: of a request for
        something that is not in the document."""
        responses = {}
        if path is not None:
            responses = self.tree["paths"][path].get(method, {}).get(
                "responses", {})
        if str(status) in responses:
            return self.follow(responses[str(status)])
        if str(status) in self.any_request()["x-statuses"]:
            return self.any_request()
        raise Mismatch(f"{method} {path}: {status} is not in {self.file}")

    def statuses(self):
        """Every status that the document has."""
        found = set(self.any_request()["x-statuses"])
        for _, _, operation in self.operations():
            found |= set(operation["responses"]) - {"default"}
        return found

    def check_response(self, path, method, status, fields, body, exact=True):
        """Holds a response against the document: status, header fields (lower
        case -> list of values), and content. Returns what its JSON says, or its
        text. `method` in lower case; a HEAD is checked as the GET, without
        content."""
        what = f"{method} {path}: {status}"
        has_content = method != "head"
        method = "get" if method == "head" else method
        response = self.response(path, method, status)
        self.check_fields(response, fields, what)
        content = response.get("content", {})
        if not content:
            if body or "content-type" in fields:
                raise Mismatch(f"{what}: content is not expected")
            return None
        found = fields.get("content-type", [""])[0]
        for media_type, entry in content.items():
            if essence(media_type) == essence(found):
                break
        else:
            raise Mismatch(f"{what}: content of type {found!r}")
        if not has_content:
            return None
        value = body.decode("utf-8")
        if essence(found) == "application/json":
            value = json.loads(value)
        self.check(entry["schema"], value, what, exact)
        return value

    def check_fields(self, response, fields, what):
        """Header fields: each that is there is documented and right, each that
        must be there is."""
        documented = {name: self.follow(header) for name, header
                      in self.tree["components"]["headers"].items()
                      if header.get("x-any-response")}
        documented.update((name, self.follow(header)) for name, header
                          in response.get("headers", {}).items())
        lower = {name.lower(): header for name, header in documented.items()}
        for name, header in lower.items():
            if header.get("required") and name not in fields:
                raise Mismatch(f"{what}: {name} is missing")
        for name, values in fields.items():
            if name in self.FRAMING and name not in lower:
                continue
            if name not in lower:
                raise Mismatch(f"{what}: {name} is not in {self.file}")
            value = ", ".join(values)
            kind = lower[name]["schema"].get("type")
            if kind == "integer" and re.fullmatch("[0-9]+", value):
                value = int(value)
            self.check(lower[name]["schema"], value, f"{what}: {name}")

    def events(self):
        """The schemas of an event stream's data, by the type of the event."""
        stream = self.follow(self.tree["paths"]["/sub"]["get"]["responses"][
            "200"])["content"]["text/event-stream"]
        return stream["x-events"]

    def check_event(self, kind, data, exact=True):
        """Holds an event's data, a JSON text, against the document; `kind`:
        "message" (with envelope=true), "reset" or "close". Returns its value.
        """
        events = self.events()
        if kind not in events:
            raise Mismatch(f"events of type {kind} are not in {self.file}")
        value = json.loads(data)
        self.check(events[kind], value, f"event {kind}", exact)
        return value


# --- AsyncAPI ----------------------------------------------------------------


class AsyncApi(Document):
    """`channel` is the name of one: "raw" or "v1"."""
    file = "asyncapi.yaml"
    dialect = jsonschema.Draft7Validator

    def messages_of(self, channel, operation_filter):
        """The names of a channel's messages that operations name."""
        prefix = f"#/channels/{channel}/messages/"
        names = []
        for operation in self.tree["operations"].values():
            for reference in operation_filter(operation):
                if reference["$ref"].startswith(prefix):
                    names.append(reference["$ref"][len(prefix):])
        return list(dict.fromkeys(names))

    def from_clients(self, channel):
        """The names of what clients send."""
        return self.messages_of(channel, lambda operation: (
            operation["messages"] if operation["action"] == "receive" else []))

    def from_server(self, channel):
        """The names of what the server sends, answers included."""
        return self.messages_of(channel, lambda operation: (
            operation["messages"] if operation["action"] == "send"
            else operation.get("reply", {}).get("messages", [])))

    def answers_to(self, channel, name):
        """The names of the messages that may answer message `name`."""
        reference = {"$ref": f"#/channels/{channel}/messages/{name}"}
        return self.messages_of(channel, lambda operation: (
            operation.get("reply", {}).get("messages", [])
            if operation["action"] == "receive"
            and reference in operation["messages"] else []))

    def message(self, channel, name):
        return self.follow(self.tree["channels"][channel]["messages"][name])

    def payload(self, channel, name):
        """The schema of a message."""
        return self.message(channel, name)["payload"]

    def examples(self, channel, name):
        return [example["payload"]
                for example in self.message(channel, name).get("examples", [])]

    def type_of(self, channel, name):
        """What the member `type` of a message is, or None."""
        schema = self.follow(self.payload(channel, name))
        kind = self.follow(schema.get("properties", {}).get("type", {}))
        return kind.get("const")

    def check_server_message(self, channel, value, exact=True):
        """Holds a message from the server, a JSON value, against the document.
        Returns its name."""
        kind = value.get("type") if isinstance(value, dict) else None
        for name in self.from_server(channel):
            if self.type_of(channel, name) == kind:
                self.check(self.payload(channel, name), value,
                           f"{channel}: {name}", exact)
                return name
        raise Mismatch(f"{channel}: no message has type {kind!r}: {value!r}")

    def error_codes(self):
        """Those of {"type": "error"}."""
        return self.tree["components"]["schemas"]["ErrorCode"]["enum"]

    def close_codes(self, channel):
        """With which codes the server closes (RFC 6455 7.4)."""
        tables = self.tree["channels"][channel]["x-close-codes"]
        if isinstance(tables, dict):
            tables = [tables]
        return {int(code) for table in tables for code in self.follow(table)}

    def subprotocol(self, channel):
        """What the client offers in Sec-WebSocket-Protocol; None: nothing."""
        return self.tree["channels"][channel].get("x-subprotocol")


def both():
    """(OpenApi, AsyncApi), as they are in the tree."""
    return OpenApi(), AsyncApi()


def changed(document, path, value):
    """A copy of `document` in which the member at `path`, a sequence of names
    and indices, is `value`; or is gone, if that is None."""
    tree = copy.deepcopy(document.tree)
    node = tree
    for name in path[:-1]:
        node = node[name]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return type(document)(tree)
