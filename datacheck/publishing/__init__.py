"""Publishing: staging, atomic publish, output names, resume, manifest."""
