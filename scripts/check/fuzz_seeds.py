#!/usr/bin/python3
"""Makes the inputs of the fuzz targets that are too large to keep.

usage: fuzz_seeds.py FOLDER: writes FOLDER/TARGET/NAME
"""
from json import dumps
import os
import struct
import sys
import time


def head(line, *fields):
    return "\r\n".join([line, "Host: a", *fields, "", ""]).encode()


def chunked(body, size):
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;e=1\r\n%b\r\n" % (len(part), part)
                    for part in parts) + b"0\r\nA: b\r\n\r\n"


def http():
    post = head("POST /pub/a HTTP/1.1", "Transfer-Encoding: chunked")
    yield "head-16k", head("GET / HTTP/1.1", "A: " + "x" * 16300)
    yield "head-17k", head("GET / HTTP/1.1", "A: " + "x" * 17400)
    yield "fields-101", head("GET / HTTP/1.1", *["A: b"] * 101)
    for size in (8000, 8200, 32000, 33000):
        target = "/sub?topic=" + "a%20" * ((size - 11) // 4)
        yield f"target-{size}", head(f"GET {target} HTTP/1.1")
    yield "chunked-1m", post + chunked(b"x" * (1 << 20), 65536)
    yield "chunked-1m-small", post + chunked(b"x" * (1 << 17), 100)
    yield "chunked-over", post + chunked(b"x" * 2100, 300)
    yield "length-1m", head("POST /pub HTTP/1.1",
                            "Content-Length: 1048576") + b"x" * (1 << 20)
    yield "length-over", head("POST /pub HTTP/1.1", "Content-Length: 2001")
    yield "extensions-17k", post + b"1;" + b"e" * 17000 + b"\r\nx\r\n"
    yield "trailers-17k", post + b"0\r\nA: " + b"x" * 17000 + b"\r\n\r\n"


    for i, fields in enumerate((
            ["Idempotency-Key: k", "Origin: null", "Last-Event-ID: a-1"],
            ["Forwarded: for=a", "X-Forwarded-For: b", "If-None-Match: *",
             "X-Forwarded-Proto: https", "Sec-Fetch-Site: cross-site",
             "Accept-Encoding: gzip", "Sec-WebSocket-Extensions: a; b",
             "Traceparent: 00-" + "1" * 32 + "-" + "1" * 16 + "-01"],
            ["Origin: http://a", "Origin: http://b", "A B: c"],
            ["Origin: http://a", "A B: c"], ["Transfer-Encoding: a b"],
            ["Access-Control-Request-Method: POST",
             "Access-Control-Request-Headers: a, b"],
            ["Transfer-Encoding: chunked, gzip"], ["Transfer-Encoding: gzip"],
            ["Transfer-Encoding: gzip, chunked"],
            ["Transfer-Encoding: chunked, chunked"],
            ["Transfer-Encoding: ,"], ["Expect: 200-ok"],
            ["Content-Length: 1", "Transfer-Encoding: chunked"])):
        yield f"fields-{i}", head("POST /pub HTTP/1.1", *fields)
    yield "te-1.0", head("POST /pub HTTP/1.0", "Transfer-Encoding: chunked")
    for i, host in enumerate((
            "a%20b:80", "a%zz", "a%2", "[::1]:80", "[::1", "[::g]", "a:b",
            "[::1]x", "a b", "", "[" + "1" * 60 + "]")):
        yield f"host-{i}", f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    yield "no-host", b"GET / HTTP/1.1\r\n\r\n"
    for i, line in enumerate((
            "GET *", "OPTIONS *", "GET http://a/b?c", "GET http://u@a/",
            "GET http:///", "GET ftp://a/", "GET http://a:b/", "GET a:80",
            "GET https://a", "CONNECT a:80", "CONNECT a/b", "GET /a#b",
            "PUT /pub/a", "HEAD /", "GET https://a?b", "GET http:/a")):
        yield f"line-{i}", head(f"{line} HTTP/1.1")
    for i, value in enumerate((
            "Basic YWxpY2U6c2VjcmV0", "basic  YTo=", "Basic YWxpY2U=",
            "Basic !!!", "Basic ", "Bearer abc.DEF-_~+/==", "Bearer a b",
            "Bearer =", "application/json; charset=utf-8",
            "application/merge-patch+json", "a, close ,b", "close",
            "Bearer " + "a" * 5000)):
        yield f"value-{i}", value.encode()


def publications(count, topic="t"):
    return ("[" + ",".join([f'{{"topic":"{topic}","data":1}}'] * count)
            + "]").encode()


def json():
    yield "many", publications(3000)
    yield "too-many", publications(16385)
    yield "text-70k", b'{"topic":"t","data":"%b"}' % (b"\\n" * 35000)
    yield "long-topic", publications(1, "t" * 1025)
    for i, value in enumerate(("null", "true", "false", "1", "{}", "[]")):
        yield f"topic-{i}", f'{{"topic":{value},"data":1}}'.encode()
        yield f"member-{i}", (f'{{"publisher":{value},"topic":"t"}}').encode()
        yield f"in-array-{i}", f'[{{"topic":"t","data":1}},{value}]'.encode()
        yield f"cut-{i}", f'[{{"topic":{value}'.encode()


def sse():
    for i, type in enumerate(("close", "reset", "goal", "x" * 128, "x" * 129,
                              "a\nb", "", "\0", " a")):
        yield f"type-{i}", b"\0" + type.encode()


def v1_codec():
    for name in ("publisher", "topic", "ref", "since", "data", "slow"):
        for size in (128, 129, 1024, 1025):
            members = {"type": "subscribe", "publisher": "p", "topic": "t",
                       name: "x" * size}
            yield f"{name}-{size}", dumps(members).encode()
    for type in ("subscribe", "publish", "unsubscribe", "ping"):
        yield f"all-{type}", dumps({
            "type": type, "ref": 1.5, "publisher": "p", "topic": "t\n\u2603",
            "since": "a-1", "slow": "drop", "data": {"a": [1]}}).encode()


def number(value):
    return struct.pack("<Q", value)


def history(topics, saved_ms=0, tail=b""):
    """A history file without its digest (src/README.md)."""
    file = b"isimud history 1\n" + number(7) + number(9) + number(saved_ms)
    file += number(len(topics))
    for publisher, name, sequence, messages in topics:
        file += number(len(publisher)) + number(len(name)) + number(sequence)
        file += number(10 ** 9) + number(len(messages)) + publisher + name
        for is_json, data in messages:
            file += number(10 ** 9) + bytes([is_json]) + number(len(data))
            file += data
    return file + tail


def history_file():
    two = [(b"alice", b"news", 3, [(0, b"one"), (1, b"[2]"), (0, b"\n")]),
           (b"bob", b"\xe2\x98\x83", 9, [])]
    now = b"\3\0"
    yield "two", now + history(two)
    yield "another", b"\7\0" + history(two)
    yield "none", now + history([])
    yield "old", b"\1\0" + history(two, 1)
    yield "future", b"\1\0" + history(two, (int(time.time()) + 9 ** 6) * 1000)
    yield "torn", b"\2\0" + history(two)
    yield "empty", b"\0\0"
    yield "short", b"\1\0isimud history 1\n"
    yield "foreign", b"\1\0" + b"#!/bin/sh\n" * 20
    yield "version", b"\1\0" + history(two).replace(b"history 1", b"history 9")
    yield "tail", now + history(two, tail=b"x")
    yield "cut", now + history(two)[:-5]
    yield "twice", now + history(two + two)
    yield "number", now + history([(b"a", b"b", 10, [(0, b"x")])])
    yield "count", now + history([(b"a", b"b", 0, [(0, b"x")])])
    yield "long-name", now + history([(b"a" * 1025, b"b", 1, [(0, b"x")])])
    yield "no-utf8", now + history([(b"\xff", b"b", 1, [(0, b"x")])])
    yield "data-utf8", now + history([(b"a", b"b", 1, [(0, b"\xff")])])
    yield "not-json", now + history([(b"a", b"b", 1, [(1, b"[")])])
    yield "flag", now + history([(b"a", b"b", 1, [(7, b"x")])])
    yield "large", now + history([(b"a", b"b", 5, [(0, b"x" * 70000)] * 5)])
    for nth in range(1, 40):
        yield f"memory-{nth}", bytes([3, nth]) + history(two)


def handshake():
    upgrade = ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket",
               "Sec-WebSocket-Version: 13"]
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    yield "good", head("GET /sub HTTP/1.1", *upgrade, key)
    yield "protocols", head("GET /sub HTTP/1.1", *upgrade, key,
                            "Sec-WebSocket-Protocol: isimud.v1, bearer.a.b",
                            "Sec-WebSocket-Protocol: bearer.c")
    yield "short-key", head("GET /sub HTTP/1.1", *upgrade,
                            "Sec-WebSocket-Key: dGhl")
    yield "two-keys", head("GET /sub HTTP/1.1", *upgrade, key, key)
    yield "key", b"dGhlIHNhbXBsZSBub25jZQ==\n"
    yield "pads", b"dGhlIHNhbXBsZSBub25jZR==\n"


def main():
    for name, seeds in (("http", http), ("json", json), ("v1_codec", v1_codec),
                        ("fields", http), ("sse", sse), ("history_file", history_file),
                        ("handshake", handshake)):
        folder = os.path.join(sys.argv[1], name)
        os.makedirs(folder, exist_ok=True)
        for seed, data in seeds():
            with open(os.path.join(folder, seed), "wb") as file:
                file.write(data)


if __name__ == "__main__":
    main()
