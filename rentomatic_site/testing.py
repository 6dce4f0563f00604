"""The project's pytest plugin (see pytest.ini): it says where the tests' database is."""

import os

# The developer's own .env has no say in the tests; the real environment has.
os.environ["ENV_FILE"] = os.devnull
os.environ.setdefault("DEBUG", "on")
