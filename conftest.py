"""What pytest loads for any test of the repository, the driver's in tests/ and the storefront's alike."""

from hypothesis import settings

pytest_plugins = ("tests.fixtures", "tests.guards", "tests.poolers", "tests.secure")

# A longer search than that of every day: `make test TEST_ARGS='--hypothesis-profile long'`.
settings.register_profile("long", max_examples=2000)

# Under sanitizers everything takes several times as long: `make asan`.
settings.register_profile("sanitized", deadline=None, max_examples=25)
