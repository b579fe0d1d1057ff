"""The command line: it asks, prints and exits; everything it does is also a documented Python API.

Commands are imported only when they are called, so that ``koinon --help`` answers at once. Every error of the library
ends here, in one place (:mod:`koinon.cli.main`), as one line with a code, a remedy and an exit status.
"""
