"""The flow of the original's clients against a running `tripline serve`.

    python client_test.py PATH-OF-TRIPLINE [unittest's arguments]
"""

import concurrent.futures
import math
import socket
import struct
import sys
import tempfile
import time
import unittest
import uuid
from pathlib import Path

import grpc
from client import Client, Ended, stubs
from server import Server

PROTO = Path(__file__).parents[2] / "proto/usermanagement/usermanagement.proto"
RPCS = """RegisterUser UpdateUser DeleteUser LoginUser UpdateHighValue UpdateLowValue
GetLatestValue GetAverageValue ShowDetails""".split()
ANN, BOB = "Ann@example.com", "bob@example.com"
PASSWORD = "a secret"
COPIES = 200
PATIENCE_S = 60

BINARY = None
pb, pb_grpc = None, None
generated = None


def setUpModule():
    global pb, pb_grpc, generated
    generated = tempfile.TemporaryDirectory()
    unittest.addModuleCleanup(generated.cleanup)
    pb, pb_grpc = stubs(PROTO, generated.name)


def f32(value):
    """What a float of the wire holds of a number."""
    return struct.unpack("f", struct.pack("f", value))[0]


def new_id():
    return str(uuid.uuid4())


def registration(email=ANN, password=PASSWORD, ticker="AAPL", low=100.5, high=150.1):
    return pb.UserRegisterRequest(
        email=email, password=password, ticker=ticker, low_value=low, high_value=high
    )


def login(email=ANN, password=PASSWORD):
    return pb.UserLoginRequest(email=email, password=password)


def user(email=ANN):
    return pb.UserIdentifier(email=email)


def high(value, email=ANN):
    return pb.HighThresholdRequest(email=email, high_value=value)


def low(value, email=ANN):
    return pb.LowThresholdRequest(email=email, low_value=value)


class ServedCase(unittest.TestCase):
    """A server of its own for each test."""

    options = ()

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.serve()

    def serve(self, *options, grpc="127.0.0.1:0"):
        """Starts the server over the test's folder, once the one before has ended."""
        self.server = Server(BINARY, self.folder, *self.options, *options, grpc=grpc)
        self.addCleanup(self.server.kill)

    def client(self, **options):
        """A connection of its own."""
        client = Client(pb_grpc, self.server.grpc, **options)
        self.addCleanup(client.channel.close)
        return client

    def accepted(self, answer):
        self.assertTrue(answer.success, answer.message)
        self.assertTrue(answer.message)
        return answer

    def refused(self, answer, part=""):
        self.assertFalse(answer.success, answer)
        self.assertTrue(answer.message)
        self.assertIn(part, answer.message)
        return answer

    def registered(self, email=ANN, **fields):
        """A connection whose session registered an account."""
        client = self.client()
        self.accepted(client.call("RegisterUser", registration(email, **fields)))
        return client

    def details(self, client, email=ANN):
        shown = self.accepted(client.call("ShowDetails", user(email)))
        return shown.ticker, shown.low_value, shown.high_value

    def until(self, probe):
        """The first answer of a probe that is not None."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            found = probe()
            if found is not None:
                return found
            time.sleep(0.05)
        raise AssertionError("waited in vain:\n" + "".join(self.server.log))


class Flow(ServedCase):
    """What the menu of the original's client can do, in its order."""

    def test_an_account_from_its_registration_to_its_deletion(self):
        client = self.registered()
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), f32(150.1)))
        # In another run of the client, and in another spelling of the address.
        client = self.client()
        self.accepted(client.call("LoginUser", login(ANN.upper())))
        self.accepted(client.call("UpdateUser", pb.UserUpdateRequest(email=ANN, new_ticker="tsla")))
        self.assertEqual(self.details(client), ("TSLA", f32(100.5), f32(150.1)))
        self.accepted(client.call("UpdateHighValue", high(200.25)))
        self.accepted(client.call("UpdateLowValue", low(0.5)))
        self.assertEqual(self.details(client), ("TSLA", 0.5, 200.25))
        # None for the one while the other is set, and the other way round.
        self.accepted(client.call("UpdateHighValue", high(-1)))
        self.assertEqual(self.details(client), ("TSLA", 0.5, -1))
        self.accepted(client.call("UpdateLowValue", low(-1)))
        self.assertEqual(self.details(client), ("TSLA", -1, -1))
        self.accepted(client.call("DeleteUser", user()))
        shown = self.refused(client.call("ShowDetails", user()), "log in")
        # The client prints these unseen.
        self.assertEqual((shown.low_value, shown.high_value), (-1, -1))
        self.refused(client.call("LoginUser", login()))

    def test_registrations_with_one_threshold_or_none(self):
        for email, lower, upper in [
            ("a@x.org", -1, -1),
            ("b@x.org", -1, 0.25),
            ("c@x.org", 0.25, -1),
            ("d@x.org", 0.25, 0.75),
        ]:
            with self.subTest(low=lower, high=upper):
                client = self.registered(email, low=lower, high=upper)
                self.assertEqual(self.details(client, email), ("AAPL", lower, upper))

    def test_a_call_without_metadata_is_carried_out(self):
        client = self.client()
        self.accepted(client.send("RegisterUser", registration(), None))
        self.accepted(client.send("UpdateHighValue", high(300), ()))
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), 300))
        self.refused(client.send("RegisterUser", registration(), None), "exists")
        # A user alone, or an id alone, promises no more.
        self.accepted(client.send("UpdateHighValue", high(301), (("user_id", ANN),)))
        for value in (302, 303):
            self.accepted(client.send("UpdateHighValue", high(value), (("request_id", "r"),)))
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), 303))

    def test_the_oldest_watch_is_acted_on_and_keeps_its_policy(self):
        self.registered()
        of_ann = {"email": ANN, "password": PASSWORD}
        (watch,) = self.server.command("watch", "list", **of_ann)
        self.assertEqual((watch["policy"], watch["step"]), ("step", "1"))
        self.assertEqual((watch["low"], watch["high"]), ("100.5", "150.1"))
        number = str(watch["id"])
        self.server.command("watch", "set", number, "--policy", "once", **of_ann)
        self.server.command("watch", "add", "IBM", "--high", "9", **of_ann)
        client = self.client()
        self.accepted(client.call("LoginUser", login()))
        self.accepted(client.call("UpdateUser", pb.UserUpdateRequest(email=ANN, new_ticker="MSFT")))
        self.accepted(client.call("UpdateLowValue", low(100.1)))
        watches = self.server.command("watch", "list", **of_ann)
        found = sorted((row["symbol"], row["policy"], row["low"], row["high"]) for row in watches)
        self.assertEqual(
            found, [("IBM", "crossing", None, "9"), ("MSFT", "once", "100.1", "150.1")]
        )

    def test_a_user_without_a_watch_can_only_choose_a_ticker(self):
        self.server.command("register", email=ANN, password=PASSWORD)
        client = self.client()
        self.accepted(client.call("LoginUser", login()))
        for method, request in [
            ("ShowDetails", user()),
            ("GetLatestValue", user()),
            ("GetAverageValue", pb.AverageRequest(email=ANN, num_values=3)),
            ("UpdateHighValue", high(5)),
            ("UpdateLowValue", low(5)),
        ]:
            with self.subTest(method):
                self.refused(client.call(method, request), "no watch")
        self.accepted(client.call("UpdateUser", pb.UserUpdateRequest(email=ANN, new_ticker="IBM")))
        self.assertEqual(self.details(client), ("IBM", -1, -1))
        (watch,) = self.server.command("watch", "list", email=ANN, password=PASSWORD)
        self.assertEqual(watch["policy"], "step")


class Prices(ServedCase):
    """Prices of a file: their latest, their average, and the mails that they make."""

    TICKS = """time,symbol,price
2000-03-01T14:30:00Z,AAPL,150.1
2000-03-01T14:30:01Z,AAPL,150.11
2000-07-01T22:30:00.500Z,AAPL,151.25
2000-07-01T22:30:00Z,IBM,7
"""

    def test_latest_and_average_and_mails(self):
        self.registered()
        self.registered(BOB, ticker="IBM", low=7.1, high=-1)
        client = self.client()
        self.accepted(client.call("LoginUser", login()))
        self.refused(client.call("GetLatestValue", user()), "AAPL")
        self.refused(
            client.call("GetAverageValue", pb.AverageRequest(email=ANN, num_values=2)), "AAPL"
        )
        self.server.stop()
        ticks = self.folder / "ticks.csv"
        ticks.write_text(self.TICKS)
        self.serve("--market", f"replay={ticks}@max")
        client = self.client()
        self.accepted(client.call("LoginUser", login()))

        def newest():
            answer = client.call("GetLatestValue", user())
            return answer if answer.success and answer.value == 151.25 else None

        latest = self.until(newest)
        self.accepted(latest)
        self.assertEqual(latest.ticker, "AAPL")
        # Half past midnight of the next day in Rome's summer.
        self.assertEqual(latest.timestamp, "2000-07-02 00:30:00")
        for asked, average, parts in [
            (1, 151.25, ["1"]),
            (2, 150.68, ["2"]),
            (3, f32(451.46 / 3), ["3"]),
            (10, f32(451.46 / 3), ["3", "10"]),
            (2**31 - 1, f32(451.46 / 3), ["3", str(2**31 - 1)]),
        ]:
            with self.subTest(asked=asked):
                request = pb.AverageRequest(email=ANN, num_values=asked)
                answer = self.accepted(client.call("GetAverageValue", request))
                self.assertEqual(answer.ticker, "AAPL")
                self.assertAlmostEqual(answer.average, average, places=4)
                for part in parts:
                    self.assertIn(part, answer.message)
        for asked in (0, -1, -(2**31)):
            request = pb.AverageRequest(email=ANN, num_values=asked)
            self.refused(client.call("GetAverageValue", request))

        # 150.1 sent as a float is the threshold 150.1, which 150.1 is not above; one mail for
        # each whole unit above it, as the original's rule has it.
        def mails():
            files = sorted((self.folder / "data/mail").glob("*.eml"))
            return [path.read_text() for path in files] if len(files) == 3 else None

        found = set()
        for mail in self.until(mails):
            names = ("To", "Ticker", "Price", "Threshold", "Condition", "Time")
            lines = dict(line.split(": ", 1) for line in mail.splitlines() if ": " in line)
            found.add(tuple(lines[name] for name in names))
        self.assertEqual(
            found,
            {
                (ANN, "AAPL", "150.11", "150.1", "above", "2000-03-01T14:30:01Z"),
                (ANN, "AAPL", "151.25", "150.1", "above", "2000-07-01T22:30:00.500Z"),
                (BOB, "IBM", "7", "7.1", "below", "2000-07-01T22:30:00Z"),
            },
        )

    def test_the_time_zone_is_an_option(self):
        self.registered()
        self.server.stop()
        ticks = self.folder / "ticks.csv"
        ticks.write_text(self.TICKS)
        zone = "legacy.time_zone=America/New_York"
        self.serve("--market", f"replay={ticks}@max", "--set", zone)
        client = self.client()
        self.accepted(client.call("LoginUser", login()))

        def newest():
            answer = client.call("GetLatestValue", user())
            return answer.timestamp if answer.success and answer.value == 151.25 else None

        self.assertEqual(self.until(newest), "2000-07-01 18:30:00")


class Refusals(ServedCase):
    """Every no is status OK with success = false and a message, or the call would raise."""

    def test_registrations(self):
        client = self.registered(BOB)
        for name, changed in [
            ("zero low", {"low": 0}),
            ("zero high", {"high": 0}),
            ("negative zero", {"low": -0.0}),
            ("negative low", {"low": -0.5}),
            ("negative high", {"high": -2}),
            ("NaN low", {"low": math.nan}),
            ("NaN high", {"high": math.nan}),
            ("infinite", {"high": math.inf}),
            ("negative infinite", {"low": -math.inf}),
            ("equal", {"low": 150.1, "high": 150.1}),
            ("low over high", {"low": 151, "high": 150}),
            ("too large", {"high": 1e10}),
            ("address without @", {"email": "ann.example.com"}),
            ("address of two @", {"email": "ann@example@com"}),
            ("address without a name", {"email": "@example.com"}),
            ("address with a blank", {"email": "ann @example.com"}),
            ("address with a line end", {"email": "ann@example.com\nBcc: x"}),
            ("no address", {"email": ""}),
            ("no password", {"password": ""}),
            ("no ticker", {"ticker": ""}),
            ("ticker with a blank", {"ticker": "A B"}),
            ("taken address", {"email": BOB}),
            ("taken address, other case", {"email": BOB.upper()}),
        ]:
            with self.subTest(name):
                request = registration(**{"email": ANN, **changed})
                # With metadata, unless what is in the request cannot be in a header.
                answer = client.call("RegisterUser", request, user_id=ANN)
                self.refused(answer)
                # The answer is the same the second time, and the address is still free.
                self.assertEqual(client.send("RegisterUser", request, None), answer)
        self.registered(ANN)

    def test_updates(self):
        client = self.registered()
        for method, request in [
            *(("UpdateHighValue", high(bad)) for bad in (0, -2, math.nan, math.inf, 100.5, 1)),
            *(("UpdateLowValue", low(bad)) for bad in (0, -2, math.nan, math.inf, 150.1, 200)),
            ("UpdateUser", pb.UserUpdateRequest(email=ANN, new_ticker="")),
            ("UpdateUser", pb.UserUpdateRequest(email=ANN, new_ticker="A,B")),
            ("UpdateUser", pb.UserUpdateRequest(email="ann", new_ticker="IBM")),
            ("UpdateUser", pb.UserUpdateRequest(email="", new_ticker="IBM")),
            ("ShowDetails", user("")),
            ("DeleteUser", user("no address")),
        ]:
            with self.subTest(method, request=str(request)):
                self.refused(client.call(method, request, user_id=ANN))
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), f32(150.1)))

    def test_logins(self):
        self.registered()
        client = self.client()
        unknown = self.refused(client.call("LoginUser", login(BOB)))
        wrong = self.refused(client.call("LoginUser", login(password="another")))
        self.assertEqual(unknown, wrong)
        self.refused(client.call("LoginUser", login(password="")))
        self.refused(client.call("LoginUser", login("")))
        self.refused(client.call("LoginUser", login("ann")))
        self.refused(client.call("ShowDetails", user()), "log in")

    def test_an_id_used_again_for_another_request(self):
        client = self.registered()
        request_id = new_id()
        self.accepted(client.call("UpdateHighValue", high(200), request_id=request_id))
        self.refused(client.call("UpdateHighValue", high(201), request_id=request_id))
        self.refused(client.call("UpdateLowValue", low(101), request_id=request_id))
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), 200))


class ThrottledLogins(ServedCase):
    """Throttling is an answer, too."""

    options = ("--set", "server.throttle.account_burst=3")

    def test_failed_logins_are_throttled(self):
        self.registered()
        client = self.client()
        for _ in range(3):
            self.refused(client.call("LoginUser", login(password="wrong")), "wrong")
        self.refused(client.call("LoginUser", login()), "too many")
        self.registered(BOB)

    def test_logins_given_up_at_their_deadline_are_not_failed_ones(self):
        self.registered()
        hasty = self.client(deadline_s=0.001, attempts=1)
        patient = self.client()
        answered = 0
        for _ in range(20):
            try:
                self.accepted(hasty.call("LoginUser", login()))
                answered += 1
            except Ended as ended:
                self.assertEqual(ended.code.name, "DEADLINE_EXCEEDED")
            # One that was given up runs on, and holds its place until it is judged: more of
            # them at a time than the account may fail in a row would be too many.
            self.accepted(patient.call("LoginUser", login()))
        self.assertLess(answered, 20)


class AtMostOnce(ServedCase):
    """A request is carried out once, whatever becomes of its answers."""

    def test_deadlines(self):
        request_id = new_id()
        for deadline_ms in (1, 1, 5, 10, 20):
            hasty = self.client(deadline_s=deadline_ms / 1000, attempts=2)
            try:
                self.accepted(hasty.call("RegisterUser", registration(), request_id=request_id))
            except Ended as ended:
                self.assertEqual(ended.code.name, "DEADLINE_EXCEEDED")
        client = self.client()
        first = client.call("RegisterUser", registration(), request_id=request_id)
        self.accepted(first)
        again = self.client().call("RegisterUser", registration(), request_id=request_id)
        self.assertEqual(again, first)
        self.refused(client.call("RegisterUser", registration()), "exists")
        self.assertEqual(len(self.watches()), 1)

    def test_a_repeated_command_gets_its_first_answer_over_any_connection(self):
        client = self.registered()
        request_id = new_id()
        first = client.call("UpdateHighValue", high(200), request_id=request_id)
        self.accepted(first)
        self.accepted(client.call("UpdateHighValue", high(300)))
        # Answered before it is asked who may act, and carried out no more.
        for other in (client, self.client()):
            again = other.call("UpdateHighValue", high(200), request_id=request_id)
            self.assertEqual(again, first)
        refused_id = new_id()
        refused = self.refused(client.call("UpdateLowValue", low(300), request_id=refused_id))
        self.accepted(client.call("UpdateHighValue", high(400)))
        again = client.call("UpdateLowValue", low(300), request_id=refused_id)
        self.assertEqual(again, refused)
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), 400))
        # What was refused for want of a login is carried out after it.
        stranger, request_id = self.client(), new_id()
        self.refused(stranger.call("UpdateHighValue", high(500), request_id=request_id), "log in")
        self.accepted(stranger.call("LoginUser", login()))
        self.accepted(stranger.call("UpdateHighValue", high(500), request_id=request_id))
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), 500))

    def test_concurrent_copies_of_a_registration_across_a_restart(self):
        request_id = new_id()
        answers = self.copies(request_id, during=lambda: None)
        self.server.kill()
        self.serve(grpc=self.server.grpc)
        answers |= self.copies(request_id, during=lambda: None)
        self.assertEqual(len(answers), 1, answers)
        self.assertEqual(len(self.watches()), 1)

    def test_concurrent_copies_of_a_registration_through_a_crash(self):
        def begun():
            series = self.server.series().items()
            return any(name == "request_total" and count > 0 for (name, _), count in series)

        def crash():
            self.until(lambda: begun() or None)
            self.server.kill()
            self.serve(grpc=self.server.grpc)

        answers = self.copies(new_id(), during=crash)
        self.assertEqual(len(answers), 1, answers)
        self.assertEqual(len(self.watches()), 1)

    def copies(self, request_id, during):
        """Sends copies of a registration over several connections; the different answers."""
        clients = [self.client() for _ in range(10)]

        def register(number):
            client = clients[number % len(clients)]
            answer = client.call("RegisterUser", registration(), request_id=request_id)
            return self.accepted(answer).SerializeToString()

        with concurrent.futures.ThreadPoolExecutor(COPIES) as pool:
            answers = [pool.submit(register, number) for number in range(COPIES)]
            during()
            return {answer.result(PATIENCE_S * 2) for answer in answers}

    def watches(self):
        return self.server.command("watch", "list", email=ANN, password=PASSWORD)


class Sessions(ServedCase):
    """Who may act, and for how long."""

    def test_a_stranger_is_told_to_log_in(self):
        owner = self.registered()
        stranger = self.registered(BOB)
        for email in (ANN, "nobody@example.com"):
            for method, request in [
                ("ShowDetails", user(email)),
                ("GetLatestValue", user(email)),
                ("GetAverageValue", pb.AverageRequest(email=email, num_values=3)),
                ("UpdateHighValue", high(500, email)),
                ("UpdateLowValue", low(1, email)),
                ("UpdateUser", pb.UserUpdateRequest(email=email, new_ticker="IBM")),
                ("DeleteUser", user(email)),
            ]:
                for claimed in (email, BOB):
                    with self.subTest(method, email=email, claimed=claimed):
                        answer = stranger.call(method, request, user_id=claimed)
                        self.refused(answer, "log in")
        self.refused(stranger.call("LoginUser", login(password="guess")))
        self.refused(stranger.call("RegisterUser", registration(password="guess")))
        self.refused(stranger.call("ShowDetails", user()), "log in")
        self.assertEqual(self.details(owner), ("AAPL", f32(100.5), f32(150.1)))
        # A session may be of several accounts.
        self.accepted(stranger.call("LoginUser", login()))
        self.details(stranger)
        self.details(stranger, BOB)

    def test_a_repeated_registration_authorises_as_well(self):
        request_id = new_id()
        for _ in range(2):
            client = self.client()
            answer = client.call("RegisterUser", registration(), request_id=request_id)
            self.accepted(answer)
            self.details(client)

    def test_a_client_reconnects_and_logs_in_again_after_a_crash(self):
        client = self.registered()
        self.details(client)
        states = []
        client.channel.subscribe(states.append)
        self.server.kill()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            # Sent, and refused by the host, while there is no server at all.
            answer = pool.submit(client.call, "ShowDetails", user())
            self.until(lambda: grpc.ChannelConnectivity.TRANSIENT_FAILURE in states or None)
            self.serve(grpc=self.server.grpc)
            self.refused(answer.result(PATIENCE_S), "log in")
        self.accepted(client.call("LoginUser", login()))
        self.assertEqual(self.details(client), ("AAPL", f32(100.5), f32(150.1)))

    def test_a_graceful_end_loses_no_client_either(self):
        client = self.registered()
        self.server.stop()
        self.serve(grpc=self.server.grpc)
        self.accepted(client.call("LoginUser", login()))
        self.details(client)

    def test_a_deletion_ends_the_authorisation_everywhere(self):
        request_id = new_id()
        first, second = self.client(), self.client()
        registered = first.call("RegisterUser", registration(), request_id=request_id)
        self.accepted(registered)
        self.accepted(second.call("LoginUser", login()))
        deletion = new_id()
        deleted = self.accepted(first.call("DeleteUser", user(), request_id=deletion))
        # The address is somebody else's now.
        heir = self.registered(password="of the heir", ticker="IBM")
        for client in (first, second, self.client()):
            self.refused(client.call("ShowDetails", user()), "log in")
            # The first answer, and no more than that.
            again = client.call("RegisterUser", registration(), request_id=request_id)
            self.assertEqual(again, registered)
            self.refused(client.call("ShowDetails", user()), "log in")
            self.assertEqual(client.call("DeleteUser", user(), request_id=deletion), deleted)
            self.refused(client.call("DeleteUser", user()), "log in")
            self.refused(client.call("LoginUser", login()))
        self.assertEqual(self.details(heir)[0], "IBM")


class OpenService(ServedCase):
    """The original's behaviour, for a closed network."""

    options = ("--set", "legacy.authorisation=open")

    def test_anybody_may_act_and_the_log_warns(self):
        self.registered()
        self.assertIn("legacy.authorisation is open", "".join(self.server.log))
        stranger = self.client()
        self.details(stranger)
        self.accepted(stranger.call("UpdateHighValue", high(200)))
        self.refused(stranger.call("ShowDetails", user(BOB)))
        self.accepted(stranger.call("DeleteUser", user()))
        self.refused(stranger.call("ShowDetails", user()))


class NoService(ServedCase):
    """Turned off, as behind a proxy that shares connections."""

    options = ("--set", "legacy.authorisation=off")

    def test_it_is_not_there(self):
        with self.assertRaises(Ended) as caught:
            self.client().call("RegisterUser", registration())
        self.assertEqual(caught.exception.code.name, "UNIMPLEMENTED")


class Metrics(ServedCase):
    """The series that dashboards and rules of the original's rely on."""

    BUCKETS = (0.1, 0.2, 0.5, 1, 2, 5, math.inf)

    def value(self, name, uservice="server_exporter", **labels):
        labels = {"uservice": uservice, "hostname": socket.gethostname(), **labels}
        return self.server.series()[(name, frozenset(labels.items()))]

    def test_every_series_is_there_from_the_start(self):
        collector = "data_collector_exporter"
        for name, uservice in [
            ("monitored_tickers", collector),
            ("production_latency_count", collector),
            ("production_latency_sum", collector),
            ("request_to_yf_total", "data-collector"),
            ("cache_size", "server_exporter"),
            ("request_total", "server_exporter"),
            ("success_request_total", "server_exporter"),
            ("login_failures_total", "server_exporter"),
        ]:
            with self.subTest(name):
                self.assertEqual(self.value(name, uservice), 0)
        series = self.server.series()
        for function in RPCS:
            self.assertEqual(self.value("response_time_seconds_count", function=function), 0)
            self.assertEqual(self.value("response_time_seconds_sum", function=function), 0)
            self.assertLessEqual(
                set(self.BUCKETS), self.buckets(series, "response_time_seconds", function)
            )
        self.assertLessEqual(set(self.BUCKETS), self.buckets(series, "production_latency"))
        for name, kind in [
            ("monitored_tickers", "gauge"),
            ("production_latency", "histogram"),
            ("request_to_yf", "counter"),
            ("cache_size", "gauge"),
            ("response_time_seconds", "histogram"),
            ("request", "counter"),
            ("success_request", "counter"),
            ("login_failures", "counter"),
        ]:
            self.assertIn(f"# TYPE {name} {kind}\n", self.server.page())

    @staticmethod
    def buckets(series, name, function=None):
        found = (dict(labels) for series_name, labels in series if series_name == f"{name}_bucket")
        return {float(labels["le"]) for labels in found if labels.get("function") == function}

    def test_what_is_counted(self):
        client, request_id = self.client(), new_id()
        for _ in range(2):
            client.call("RegisterUser", registration(), request_id=request_id)
        client.call("RegisterUser", registration())
        client.call("LoginUser", login())
        client.call("LoginUser", login(password="wrong"))
        client.call("LoginUser", login("no address"))
        client.call("ShowDetails", user(BOB))
        self.assertEqual(self.value("request_total"), 7)
        # The repeated answer is one of success, too.
        self.assertEqual(self.value("success_request_total"), 3)
        self.assertEqual(self.value("login_failures_total"), 2)
        for function, count in [("RegisterUser", 3), ("LoginUser", 3), ("ShowDetails", 1)]:
            with self.subTest(function):
                found = self.value("response_time_seconds_count", function=function)
                self.assertEqual(found, count)
        self.assertGreater(self.value("response_time_seconds_sum", function="RegisterUser"), 0)
        self.assertGreater(self.value("cache_size"), 0)

        def watched():
            return self.value("monitored_tickers", "data_collector_exporter") == 1 or None

        self.until(watched)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("expected the path of tripline, found nothing")
    BINARY = Path(sys.argv.pop(1)).resolve()
    unittest.main()
