"""From the evidence at an operation to its cause: plain rules over plain values, without torch, one family a file."""
