"""The local stack: supervised processes in one state folder."""
