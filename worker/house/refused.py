"""Files that no model brings along: what runs, and what runs when it is read."""

#: Programs, libraries, and checkpoints that are pickles. `.bin` is one of these unless a graph names it as its data.
REFUSED_SUFFIXES = frozenset(
    {
        ".py", ".pyc", ".pyd", ".pyx", ".sh", ".exe", ".bat", ".ps1", ".jar", ".class", ".wasm",
        ".so", ".dll", ".dylib", ".a", ".lib", ".o",
        ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".marshal",
        ".npy", ".npz", ".mar", ".engine", ".plan", ".trt",
    }
)  # fmt: skip
DATA_SUFFIX = ".bin"
#: The beginnings of such files, whatever they are called.
_BEGINNINGS = {
    b"\x7fELF": "a program or library",
    b"\xca\xfe\xba\xbe": "a program or library",
    b"\xcf\xfa\xed\xfe": "a program or library",
    b"PK\x03\x04": "an archive, as checkpoints of PyTorch are",
    b"\x1f\x8b": "a compressed file",
    b"#!": "a script",
    b"\x93NUMPY": "an array that may hold a pickle",
}


def kind_of(head: bytes) -> str | None:
    """What a file is that begins so, if it is one of these."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    # PROTO, the version, and from version 4 on a frame; else the first opcode of an object that runs or holds others.
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and head[2:3] in _OPCODES:
        return "a pickle"
    if head.startswith(b"MZ") and b"\0" in head[:64]:
        return "a program or library"
    return None


#: Of pickle: frame, global, empty dict, list and tuple, mark, binary text, long integer.
_OPCODES = frozenset(bytes([code]) for code in b"\x95c}])(XU\x8c\x8aK")
