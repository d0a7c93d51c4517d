"""The kernel: mechanism only.

1. It protects and multiplexes; it decides nothing. Policy lives in servers and in libexo: do not add it here.
2. A right is checked once, when it is bound; its use does not come back here.
3. What is true of the machine is exposed to all, read-only, in the kernel interface page.
4. What was given can be taken back: asked for first, then taken, and the loser is told what it lost.
5. A caller's mistake is a refusal or a fault; ours is a panic, and stops the system.

Open `boot.py` first.
"""
