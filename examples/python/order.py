"""Stock and points as two HTTP services, and orders that change both or neither.

The orders go through DTM's own Python client (`pip install dtmcli`), once as TCC, once as a saga, once as a
message. Ends with exit code 1 if something is not as it should be.

    python order.py [http://127.0.0.1:36789/api/dtmsvr]
"""

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import requests
from dtmcli import msg, saga, tcc, utils

DTM = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:36789/api/dtmsvr"

# The services' books. (A real one has a database, and the branch barrier in it.)
lock = threading.Lock()
stock = {"available": 5, "frozen": 0, "sold": 0}
points = {"real": 0, "in_advance": 0}
seen = set()  # steps that were carried out: calls may come twice
committed_messages = set()


class Refused(Exception):
    pass


def move(book, source, to, amount):
    if source is not None:
        if book[source] < amount:
            raise Refused("there are no %d" % amount)
        book[source] -= amount
    if to is not None:
        book[to] += amount


STEPS = {
    "/stock/try": lambda n: move(stock, "available", "frozen", n),
    "/stock/confirm": lambda n: move(stock, "frozen", "sold", n),
    "/stock/cancel": lambda n: move(stock, "frozen", "available", n),
    "/stock/action": lambda n: move(stock, "available", "sold", n),
    "/stock/compensate": lambda n: move(stock, "sold", "available", n),
    "/points/try": lambda n: move(points, None, "in_advance", n),
    "/points/confirm": lambda n: move(points, "in_advance", "real", n),
    "/points/cancel": lambda n: move(points, "in_advance", None, n),
    "/points/action": lambda n: move(points, None, "real", n),
    "/points/compensate": lambda n: move(points, "real", None, n),
}
UNDOES = {"cancel": "try", "compensate": "action"}


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            with lock:
                self.step(url.path, query, body["amount"])
            self.answer(200, {"dtm_result": "SUCCESS"})
        except Refused as why:
            self.answer(409, {"dtm_result": "FAILURE", "message": str(why)})

    def step(self, path, query, amount):
        def key(op):
            return (query["gid"], query["branch_id"], op)

        op = query["op"]
        if key(op) in seen:
            return
        undone = UNDOES.get(op)
        if undone and key(undone) not in seen:
            seen.update([key(undone), key(op)])  # it never came, and must not come later
            return
        STEPS[path](amount)
        seen.add(key(op))

    def do_GET(self):
        """The check-back of a message: has its local transaction committed?"""
        gid = parse_qs(urlparse(self.path).query)["gid"][0]
        known = gid in committed_messages
        self.answer(200 if known else 409, {"dtm_result": "SUCCESS" if known else "FAILURE"})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def status(gid):
    return requests.get(DTM + "/query", params={"gid": gid}).json()["transaction"]["status"]


def wait_for_end(gid):
    deadline = time.time() + 30
    while status(gid) not in ("succeed", "failed"):
        assert time.time() < deadline, "%s is still %s" % (gid, status(gid))
        time.sleep(0.02)
    return status(gid)


def by_tcc(base, pieces):
    gid = utils.gen_gid(DTM)

    def branches(t):
        for service, amount in (("stock", pieces), ("points", 10 * pieces)):
            urls = ["%s/%s/%s" % (base, service, op) for op in ("try", "confirm", "cancel")]
            t.call_branch({"amount": amount}, *urls)

    tcc.tcc_global_transaction(DTM, gid, branches)
    return wait_for_end(gid)


def by_saga(base, pieces):
    gid = utils.gen_gid(DTM)
    order = saga.Saga(DTM, gid)
    # Points first: when the stock says no, there is something to undo.
    for service, amount in (("points", 10 * pieces), ("stock", pieces)):
        urls = ["%s/%s/%s" % (base, service, op) for op in ("action", "compensate")]
        order.add({"amount": amount}, *urls)
    order.submit()
    return wait_for_end(gid)


def by_message(base, pieces, commits):
    gid = utils.gen_gid(DTM)
    order = msg.Msg(DTM, gid).add({"amount": 10 * pieces}, base + "/points/action")

    def local_transaction(_barrier):
        if not commits:
            raise utils.DTMFailureError("the local transaction was rolled back")
        with lock:
            move(stock, "available", "sold", pieces)
        committed_messages.add(gid)

    try:
        order.do_and_submit(base + "/query", local_transaction)
    except utils.DTMFailureError:
        pass
    return wait_for_end(gid)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = "http://127.0.0.1:%d" % server.server_port

    ends = [
        ("tcc, 1 piece", by_tcc(base, 1), "succeed"),
        ("tcc, 9 pieces", by_tcc(base, 9), "failed"),
        ("saga, 1 piece", by_saga(base, 1), "succeed"),
        ("saga, 9 pieces", by_saga(base, 9), "failed"),
        ("message, committed", by_message(base, 1, True), "succeed"),
        ("message, rolled back", by_message(base, 1, False), "failed"),
    ]
    for what, end, _ in ends:
        print("%-22s %s" % (what, end))
    print("stock", stock, "points", points)
    wrong = [what for what, end, wanted in ends if end != wanted]
    assert not wrong, "unexpected: %s" % wrong
    assert stock == {"available": 2, "frozen": 0, "sold": 3}, stock
    assert points == {"real": 30, "in_advance": 0}, points


if __name__ == "__main__":
    main()
