"""A client of `usermanagement.UserService` that behaves as the original's, and shares no code
with Tripline: what it relies on is the proto file alone.

A request bears its user and an id that it keeps over its retries. A deadline that is over is
tried again at once, an unavailable server once the channel is ready; any other status ends it.
"""

import importlib
import sys
import uuid
from pathlib import Path

import grpc
from grpc_tools import protoc

DEADLINE_S = 2.0
ATTEMPTS = 20
# 20 attempts of it are the 100 minutes that the original waits in the worst case.
CHANNEL_WAIT_S = 300.0


class Ended(Exception):
    """A status that ends a request, or no answer after the last attempt."""

    def __init__(self, method, code, details):
        super().__init__(f"{method} ended with {code}: {details}")
        self.code = code


def stubs(proto_file, folder):
    """Makes the modules of messages and stubs of a proto file in a folder, and loads them."""
    proto_file, folder = Path(proto_file).resolve(), Path(folder).resolve()
    arguments = [f"--proto_path={proto_file.parent}", f"--python_out={folder}"]
    arguments += [f"--grpc_python_out={folder}", str(proto_file)]
    if protoc.main(["protoc", *arguments]) != 0:
        raise RuntimeError(f"no stubs could be made of {proto_file}")
    sys.path.insert(0, str(folder))
    name = proto_file.stem
    return importlib.import_module(f"{name}_pb2"), importlib.import_module(f"{name}_pb2_grpc")


class Client:
    """One connection, as one run of the original's client has."""

    def __init__(self, grpc_stubs, target, deadline_s=DEADLINE_S, attempts=ATTEMPTS):
        self.deadline_s, self.attempts = deadline_s, attempts
        # Channels of one process share connections unless they are told not to, and a proxy
        # for the web is none for a server on this host.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.insecure_channel(target, options=options)
        self.stub = grpc_stubs.UserServiceStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def call(self, method, request, user_id=None, request_id=None):
        """The answer to a request. The user is the request's own unless another is given."""
        metadata = (
            ("user_id", request.email if user_id is None else user_id),
            ("request_id", request_id or str(uuid.uuid4())),
        )
        return self.send(method, request, metadata)

    def send(self, method, request, metadata):
        """The answer to a request that bears some metadata, or none."""
        last = None
        for _ in range(self.attempts):
            try:
                rpc = getattr(self.stub, method)
                return rpc(request, timeout=self.deadline_s, metadata=metadata)
            except grpc.RpcError as error:
                last = error
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    self.wait_for_channel()
                elif error.code() != grpc.StatusCode.DEADLINE_EXCEEDED:
                    break
        raise Ended(method, last.code(), last.details())

    def wait_for_channel(self):
        """Waits until the channel is ready, or for as long as one attempt may."""
        try:
            grpc.channel_ready_future(self.channel).result(timeout=CHANNEL_WAIT_S)
        except grpc.FutureTimeoutError:
            pass
