"""The programs of environments, and the right to create environments."""

from kernel.abi.errors import Refusal
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.rights import Kind
from kernel.capability import Resource
from kernel.errors import Refused


class Factory(Resource):
    """The right to create environments and to publish names."""

    kind = Kind.FACTORY


def check_program(program: Program, descriptors: int) -> None:
    """Refuse a program that the host could not start, or that does not fit the number of *descriptors*."""
    if program.kind not in tuple(ProgramKind) or not program.argv:
        raise Refused(Refusal.BAD_ARGUMENT, f"program kind {program.kind}, {len(program.argv)} arguments")
    if any("\0" in text for pair in program.environ for text in pair) or "\0" in "".join(program.argv):
        raise Refused(Refusal.BAD_ARGUMENT, "a null byte in the arguments or the environ")
    if any(not key or "=" in key for key, _ in program.environ):
        raise Refused(Refusal.BAD_ARGUMENT, "a name in the environ is empty or holds '='")
    known = all(role in tuple(Role) for role in program.roles)
    if len(program.roles) != descriptors or not known or len(set(program.roles)) != descriptors:
        raise Refused(Refusal.BAD_DESCRIPTORS, f"{descriptors} came, roles are {program.roles}")
