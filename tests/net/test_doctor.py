"""``dingo-zmq doctor``: everything that it can find is set up for real, and it says what is wrong."""

from __future__ import annotations

import json
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from dingo_zmq.mesh import keys
from tests.lan import Host, Lan, Net
from tests.support import Program, wait_until

WAIT = "3"
"""seconds that each of them looks around"""
AT_ONCE = 6
"""how many of them do so at a time"""

NODE = """
import sys, threading, time
{patch}
from dingo_zmq import App
app = App("mesh", mesh=sys.argv[1])
@app.task
def add(a: int, b: int) -> int:
    return a + b
app.serve(name=sys.argv[2])
print("serving", flush=True)
threading.Event().wait()
"""
OTHER_VERSION = "import dingo_zmq.protocol.messages as m; m.VERSION = 2"
FAST_CLOCK = "now = time.time; time.time = lambda: now() + 7200"
TAKE_5353 = """
import socket, threading
taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taken.bind(("", 5353))
print("taken", flush=True)
threading.Event().wait()
"""
TASKS = """
from dingo_zmq import App
app = App("mesh")
@app.task
def scan({parameters}) -> int:
    return x
@app.task
def same(x: int) -> int:
    return x
"""
DROP_47100 = """
table inet filter {
chain input {
type filter hook input priority 0
iifname lan0 tcp dport 47100 drop
}
}
"""


class Clinic(NamedTuple):
    """Machines, what ails them, and what their doctors have said."""

    net: Net
    hosts: dict[str, Host]
    said: dict[str, Program]


def refuses(host: Host, address: str, port: int) -> bool:
    try:
        host.inside(socket.create_connection, (address, port), 1.0).close()
    except ConnectionRefusedError:
        return True
    return False


class Builder:
    """Sets things up; its programs are started at once and awaited later."""

    def __init__(self, net: Net, folder: Path) -> None:
        self.net, self.folder = net, folder
        self.lan = net.lan()
        self.hosts: dict[str, Host] = {}
        self.starting: list[tuple[Program, str]] = []
        self.doctors: dict[str, tuple[Host, tuple[str, ...]]] = {}

    def host(self, name: str, *lans: Lan, key: bool = True) -> Host:
        self.hosts[name] = self.net.host(name, *lans, key=key)
        return self.hosts[name]

    def node(self, host: Host, mesh: str, *words: str, target: str = "tests/served.py") -> Program:
        program = host.program("node", target, "--mesh", mesh, "--threads", "1", *words)
        self.starting.append((program, "node "))
        return program

    def script(self, host: Host, text: str, line: str, *words: str) -> None:
        self.starting.append((host.script(text, *words), line))

    def started(self) -> None:
        while self.starting:
            program, line = self.starting.pop()
            program.line(line, "out")

    def doctor(self, name: str, host: Host, mesh: str, *words: str) -> None:
        self.doctors[name] = host, ("doctor", "--wait", WAIT, "--mesh", mesh, *words)

    def tasks(self, name: str, parameters: str) -> str:
        file = self.folder / name / "tasks.py"
        file.parent.mkdir()
        file.write_text(TASKS.format(parameters=parameters))
        return str(file)

    def run(self) -> dict[str, Program]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = {name: pool.submit(host.run, *words) for name, (host, words) in self.doctors.items()}
        return {name: each.result() for name, each in running.items()}


@pytest.fixture(scope="module")
def clinic(module_net: Net, tmp_path_factory: pytest.TempPathFactory) -> Clinic:
    build = Builder(module_net, tmp_path_factory.mktemp("tasks"))
    nodes_of_one_lan(build)
    nodes_of_odd_hosts(build)
    build.started()
    a, b = build.hosts["a"], build.hosts["b"]
    dead, keyless = build.hosts["dead"], build.hosts["keyless"]
    dead.programs[0].signal(signal.SIGKILL)
    wait_until(lambda: refuses(dead, dead.address, 47100), "it is dead")
    keyless.mesh_key(module_net.key)
    one, several = build.tasks("here", "x: int"), f"tcp://{b.address}:47400"
    build.doctor("fine", a, "fine", "tests/served.py")
    build.doctor("fine there", b, "fine")
    build.doctor("closed", a, "closed", "--peer", f"tcp://{dead.address}:47100")
    build.doctor("keyless there", keyless, "keyless")
    build.doctor("keyless from afar", a, "keyless", "--peer", f"tcp://{keyless.address}:47100")
    build.doctor("filtered", a, "filtered")
    build.doctor("other mesh", a, "mine")
    build.doctor("other mesh by address", a, "mine", "--discovery", "none", "--peer", several)
    build.doctor("key", a, "key")
    build.doctor(
        "key by address", a, "x", "--discovery", "none", "--peer", f"tcp://{build.hosts['key'].address}:47100"
    )
    build.doctor("version", a, "version")
    build.doctor("function", a, "function", one)
    build.doctor("address of nobody", a, "nobody")
    build.doctor("address elsewhere", a, "elsewhere", "--json")
    build.doctor("address of nobody there", build.hosts["nobody"], "nobody")
    build.doctor("clock", a, "clock")
    build.doctor("no interface", build.hosts["alone"], "x")
    build.doctor("no echo", build.hosts["walled"], "x")
    build.doctor("nothing returns", build.hosts["c"], "quiet")
    build.doctor(
        "nothing returns, an address given",
        build.hosts["c"],
        "quiet",
        "--peer",
        f"tcp://{build.hosts['d'].address}:47100",
    )
    build.doctor("port taken", build.hosts["taken"], "x")
    build.doctor("key file", build.hosts["loose"], "x")
    build.doctor("no key", build.hosts["bare"], "x")
    build.doctor("no key, an address given", build.hosts["bare"], "x", "--peer", f"tcp://{b.address}:47100")
    return Clinic(module_net, build.hosts, build.run())


def nodes_of_one_lan(build: Builder) -> None:
    lan = build.lan
    build.host("a", lan)
    b = build.host("b", lan)
    build.node(b, "fine", "--port", "47300")
    build.node(b, "theirs", "--port", "47400")
    build.node(b, "function", "--name", "bench", target=build.tasks("there", "x: int, y: int = 0"))
    build.script(b, NODE.format(patch=OTHER_VERSION), "serving", "version", "newer")
    build.script(b, NODE.format(patch=FAST_CLOCK), "serving", "clock", "fast")
    filtered = build.host("filtered", lan)
    filtered.nft(DROP_47100)
    build.node(filtered, "filtered")
    build.node(build.host("nobody", lan), "nobody", "--advertise", f"10.77.{lan.subnet}.250")
    build.node(build.host("elsewhere", lan), "elsewhere", "--advertise", "192.0.2.1")
    build.node(build.host("dead", lan), "closed", "--discovery", "none")
    build.node(build.host("keyless", lan, key=False), "keyless")
    key = build.host("key", lan, key=False)
    key.mesh_key(keys.new_key("mesh"))
    build.node(key, "key")


def nodes_of_odd_hosts(build: Builder) -> None:
    lan, quiet = build.lan, build.net.lan()
    build.host("alone")
    build.host("walled", lan).no_multicast()
    quiet.no_multicast()
    build.host("c", quiet)
    build.node(build.host("d", quiet), "quiet")
    build.script(build.host("taken", lan), TAKE_5353, "taken")
    build.host("loose", lan).key_file.chmod(0o644)
    build.host("bare", lan, key=False)


def told(doctor: Program, check: str) -> list[str]:
    """Return the lines of one check, hints and all; a check says so often what it is about in its name."""
    lines = doctor.out.splitlines()
    found = [number for number, line in enumerate(lines) if line[6:].startswith(f"{check}: ")]
    hints = [number + 1 for number in found if lines[number + 1].startswith("      hint: ")]
    return [lines[number] for number in sorted(found + hints)]


def assert_well(doctor: Program, verdict: str) -> None:
    assert (doctor.wait(), doctor.err) == (0, ""), str(doctor)
    assert doctor.out.splitlines()[-1] == f"verdict: {verdict}", str(doctor)
    assert "FAIL" not in doctor.out


def assert_wrong(doctor: Program, verdict: str) -> None:
    assert (doctor.wait(), doctor.err) == (1, ""), str(doctor)
    assert doctor.out.splitlines()[-1] == f"verdict: {verdict}", str(doctor)


# ---------------------------------------------------------------------- all is well


def test_all_is_well(clinic: Clinic) -> None:
    doctor, a, b = clinic.said["fine"], clinic.hosts["a"], clinic.hosts["b"]

    assert_well(doctor, "this machine and 1 node are fine")
    key = f"ok    key: mesh key {keys.key_id(clinic.net.key)} in {a.key_file}"
    assert told(doctor, "key") == [key]
    assert told(doctor, "network") == [f"ok    network: {a.address} (lan0), {a.link_local()} (lan0)"]
    assert told(doctor, "port 5353") == ["ok    port 5353: can be shared"]
    (node,) = told(doctor, "node b")
    assert node.startswith(f"ok    node b: ready at tcp://{b.address}:47300, ")
    (functions,) = told(doctor, "functions")
    assert functions.endswith(" of tests/served.py the same here and on 1 node")
    assert told(doctor, "clock") == ["ok    clock: the same here and on 1 node"]
    (multicast,) = told(doctor, "multicast")
    assert multicast.startswith("ok    multicast: comes back on lan0, and ")


def test_a_node_is_seen_on_its_own_machine(clinic: Clinic) -> None:
    doctor = clinic.said["fine there"]

    assert_well(doctor, "this machine and 1 node are fine")
    (node,) = told(doctor, "node b")
    assert node.startswith("ok    node b: ready at tcp://127.0.0.1:47300, ")


def test_a_host_name_on_127_0_1_1_does_no_harm(clinic: Clinic) -> None:
    assert told(clinic.said["fine there"], "host name") == [
        "ok    host name: b is 127.0.1.1 here, which does no harm: nodes tell the addresses of the interfaces"
    ]


def test_a_clock_that_is_off_does_no_harm(clinic: Clinic) -> None:
    doctor = clinic.said["clock"]

    assert_well(doctor, "this machine and 1 node are fine (1 warning above)")
    assert told(doctor, "clock") == [
        "warn  clock: fast is 2 hours ahead of this machine; nothing here depends on the clocks, "
        "but logs are hard to compare",
        "      hint: on both: sudo timedatectl set-ntp true",
    ]


# ---------------------------------------------------------------------- this machine


def test_a_key_file_that_others_can_read(clinic: Clinic) -> None:
    file = clinic.hosts["loose"].key_file

    assert_wrong(clinic.said["key file"], "the key of this machine cannot be used")
    assert told(clinic.said["key file"], "key") == [
        f"FAIL  key: {file} can be read or changed by others (mode 0644)",
        f"      hint: chmod 600 {file}",
    ]


def test_no_key(clinic: Clinic) -> None:
    bare, b = clinic.hosts["bare"], clinic.hosts["b"]
    first, second = clinic.said["no key"], clinic.said["no key, an address given"]
    text = f"key: there is no mesh key in {bare.key_file}, so nodes and callers here keep to this machine"

    assert_wrong(first, "no node was found")
    assert told(first, "key")[0] == f"warn  {text}"
    assert told(first, "multicast") == ["ok    multicast: not used without a mesh key"]
    assert_wrong(second, "the key of this machine cannot be used")
    assert told(second, "key")[0] == f"FAIL  {text}, and tcp://{b.address}:47100 is at another one"


def test_too_few_open_files(clinic: Clinic) -> None:
    command = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh", sys.executable, "-m", "dingo_zmq"]
    doctor = clinic.hosts["a"].program(command=[*command, "doctor", "--wait", "0.5", "--mesh", "fine"])

    assert doctor.wait() == 1
    assert doctor.out.splitlines()[-1] == "verdict: the limit of open files is too low"
    assert told(doctor, "open files") == [
        "FAIL  open files: only 64 for a process, enough for about 4 nodes",
        "      hint: ulimit -n 4096 in the shell that starts it, or LimitNOFILE=4096 in its unit",
    ]


def test_no_interface(clinic: Clinic) -> None:
    assert_wrong(clinic.said["no interface"], "this machine is on no network that could be used")
    assert told(clinic.said["no interface"], "network") == [
        "FAIL  network: this machine has no address but loopback",
        "      hint: ip address shows what there is; plug it in, or: sudo ip link set NAME up",
    ]


# ---------------------------------------------------------------------- multicast


def test_port_5353_is_taken(clinic: Clinic) -> None:
    assert_wrong(clinic.said["port taken"], "UDP port 5353 cannot be used")
    assert told(clinic.said["port taken"], "port 5353") == [
        "FAIL  port 5353: another program keeps UDP port 5353 to itself, so nodes of other machines are not found",
        "      hint: end it (ss -ulpn 'sport = :5353' shows it), or do without: --peer tcp://HOST:47100",
    ]


def test_no_echo_of_multicast(clinic: Clinic) -> None:
    assert_wrong(clinic.said["no echo"], "multicast does not get out of this machine and in again")
    assert told(clinic.said["no echo"], "multicast") == [
        "FAIL  multicast: what is sent on lan0 does not come back to this machine itself: Operation not permitted",
        "      hint: let UDP port 5353 in and out: sudo ufw allow 5353/udp, "
        "or sudo firewall-cmd --add-service=mdns",
    ]


def test_multicast_leaves_and_nothing_returns(clinic: Clinic) -> None:
    text = (
        f"multicast: leaves on lan0, but no other machine was heard in {WAIT} s: "
        "a switch or wireless access point filters it, or nobody else is there"
    )
    hint = (
        "      hint: name the address of a node: --peer tcp://HOST:47100; "
        "or run dingo-zmq doctor on two machines at a time"
    )
    given = clinic.said["nothing returns, an address given"]

    assert_wrong(clinic.said["nothing returns"], "no multicast of another machine gets here")
    assert told(clinic.said["nothing returns"], "multicast") == [f"FAIL  {text}", hint]
    assert_well(given, "this machine and 1 node are fine (1 warning above)")
    assert told(given, "multicast") == [f"warn  {text}", hint]


# ---------------------------------------------------------------------- addresses and ports


def test_a_port_that_is_closed(clinic: Clinic) -> None:
    endpoint = f"tcp://{clinic.hosts['dead'].address}:47100"

    assert_wrong(clinic.said["closed"], f"port closed at {endpoint}")
    assert told(clinic.said["closed"], f"node {endpoint}") == [
        f"FAIL  node {endpoint}: nobody listens there: "
        "it has ended, has another port, or keeps to its own machine",
        "      hint: run dingo-zmq doctor there too; a node prints its address when it starts",
    ]


def test_a_port_that_is_filtered(clinic: Clinic) -> None:
    address = clinic.hosts["filtered"].address

    assert_wrong(clinic.said["filtered"], "port filtered at filtered")
    assert told(clinic.said["filtered"], "node filtered") == [
        f"FAIL  node filtered: port 47100 of {address} does not answer: "
        "a firewall drops it, for the machine is there",
        "      hint: there: sudo ufw allow 47100:47101/tcp, or sudo firewall-cmd --add-port=47100-47101/tcp",
    ]


def test_a_node_that_listens_on_its_own_machine_only(clinic: Clinic) -> None:
    endpoint = f"tcp://{clinic.hosts['keyless'].address}:47100"

    assert_wrong(clinic.said["keyless there"], "keyless listens on its own machine only")
    assert told(clinic.said["keyless there"], "node keyless") == [
        "FAIL  node keyless: listens on this machine only: it was started without the mesh key that is here now",
        "      hint: end it and start it again",
    ]
    assert_wrong(clinic.said["keyless from afar"], f"port closed at {endpoint}")
    assert "keeps to its own machine" in clinic.said["keyless from afar"].out


def test_an_advertised_address_that_cannot_be_reached(clinic: Clinic) -> None:
    nobody = f"10.77.{clinic.net.lans[0].subnet}.250"
    hint = "start it without --advertise, or with an address that other machines can reach"
    elsewhere = clinic.said["address elsewhere"]

    assert_wrong(clinic.said["address of nobody"], "the address of nobody cannot be reached")
    assert told(clinic.said["address of nobody"], "node nobody") == [
        f"FAIL  node nobody: has the address {nobody}, which nobody on this network has",
        f"      hint: {hint}",
    ]
    assert elsewhere.wait() == 1
    report = json.loads(elsewhere.out)
    assert (report["verdict"], report["well"]) == ("the address of elsewhere cannot be reached", False)
    assert [each for each in report["findings"] if each["level"] == "fail"] == [
        {
            "level": "fail",
            "check": "node elsewhere",
            "text": "has the address 192.0.2.1, to which there is no way from here",
            "hint": hint,
            "cause": "not_reachable",
        }
    ]


def test_an_advertised_address_of_nobody_seen_on_the_machine_itself(clinic: Clinic) -> None:
    doctor = clinic.said["address of nobody there"]

    assert_well(doctor, "this machine and 1 node are fine (1 warning above)")
    assert (
        f"but it tells others tcp://10.77.{clinic.net.lans[0].subnet}.250:47100, which does not exist"
        in doctor.out
    )


# ---------------------------------------------------------------------- who does not let us in, or differs


def test_another_protocol_version(clinic: Clinic) -> None:
    assert_wrong(clinic.said["version"], "other protocol version at newer")
    assert told(clinic.said["version"], "node newer") == [
        "FAIL  node newer: speaks protocol version 2, and this machine 1",
        "      hint: pip install --upgrade dingo-zmq where it is older",
    ]


def test_a_key_that_is_refused(clinic: Clinic) -> None:
    ours, host = keys.key_id(clinic.net.key), clinic.hosts["key"]
    theirs, file = keys.key_id(keys.load_key(host.key_file)), clinic.hosts["a"].key_file
    endpoint = f"tcp://{host.address}:47100"
    hint = f"      hint: all machines need the same key: copy {file} there and start it again, or its key here"

    assert_wrong(clinic.said["key"], "key refused by key")
    assert told(clinic.said["key"], "node key") == [
        f"FAIL  node key: it has another key; ours is {ours}, its {theirs}",
        hint,
    ]
    assert_wrong(clinic.said["key by address"], f"key refused by {endpoint}")
    assert told(clinic.said["key by address"], f"node {endpoint}") == [
        f"FAIL  node {endpoint}: it does not accept our key, or is no dingo-zmq node; ours is {ours}",
        hint,
    ]


def test_another_mesh(clinic: Clinic) -> None:
    found, named = clinic.said["other mesh"], clinic.said["other mesh by address"]
    endpoint = f"tcp://{clinic.hosts['b'].address}:47400"

    assert found.wait() == 1
    assert found.out.splitlines()[-1].startswith('verdict: other mesh name: "')
    (text, hint) = told(found, "mesh")
    assert text.startswith('FAIL  mesh: there is no node of mesh "mine", but ')
    assert '1 of mesh "theirs"' in text
    assert "(or DINGO_ZMQ_MESH) here, or --mesh mine for the node" in hint
    assert_wrong(named, "other mesh name: b belongs to mesh 'theirs', not 'mine'")
    assert told(named, f"node {endpoint}") == [
        f"FAIL  node {endpoint}: refused us: b belongs to mesh 'theirs', not 'mine'",
        "      hint: --mesh (or DINGO_ZMQ_MESH) must be the same; here it is mine",
    ]


def test_a_function_that_differs(clinic: Clinic) -> None:
    there = "scan(x: int, y: int = 0) -> int on bench"

    assert_wrong(clinic.said["function"], f"function differs: scan(x: int) -> int here, {there}")
    (differs, hint, same) = told(clinic.said["function"], "functions")
    assert differs == f"FAIL  functions: scan(x: int) -> int here, {there}"
    assert hint == "      hint: serve the same file on bench, and start the node again"
    assert same.startswith("ok    functions: 1 of ")
