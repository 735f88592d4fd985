"""The command line: options in, a call, words or JSON out."""
