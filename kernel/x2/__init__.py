"""The part only L4 X.2 needs: ThreadControl, SpaceControl, its half of the kernel interface page, boot records."""
