"""An endless loop: it never gives the processor up by itself."""

while True:
    pass
