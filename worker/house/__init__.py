"""The model house on a worker: bringing models in (`importer`), keeping them on disk, doing what is desired (`keeper`).

    claim -> fetch (`sources`) -> unpack -> lay out -> scan -> store -> check (`trial`) -> finish

Everything that parses what strangers wrote runs in a child process (`child`).
"""
