"""The other hosts with `web` (WEB_HOSTS), by what each says of itself."""

from deploy.operations.doctor.finding import Finding, error, ok, warning
from deploy.operations.hosts import SECRETS, Answer

THERE = "there: docker compose up -d --wait; ./deploy/rentomatic doctor"
COPY = f"copy {', '.join(SECRETS)} of deploy/secrets there, then there: ./deploy/rentomatic apply --force"
ROLLOUT = "the same release on each host: git pull; then ./deploy/rentomatic rollout"


def ready(found: dict[str, Answer], own: Answer) -> Finding:
    """Whether each of `found` is ready, and of the release and the secrets of this host."""
    if unready := {name: one.reason for name, one in found.items() if one.reason}:
        text = "; ".join(f"{name}: {reason}" for name, reason in unready.items())
        command = ROLLOUT if "the schema is newer" in text else THERE
        return error(
            f"{len(found) - len(unready)} of {len(found)} web hosts are ready: {text[:300]}", command
        )
    if strange := [name for name, one in found.items() if own.key and one.key != own.key]:
        return error(
            f"{', '.join(strange)} has another SECRET_KEY: who has logged in here is logged out there", COPY
        )
    if other := [name for name, one in found.items() if own.release and one.release != own.release]:
        return warning(f"{', '.join(other)} runs another release than this host", ROLLOUT)
    return ok(f"{len(found)} web hosts are ready, with this host's release and secrets")
