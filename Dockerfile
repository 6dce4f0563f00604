# The image of the site, for the services `migrate` and `web` of compose.yml; ./deploy/rentomatic rollout builds it. See
# docs/deployment.md.

# The base, which .env may pin by its digest (PYTHON_IMAGE).
ARG PYTHON_IMAGE=python:3.13-slim

# --- Wheels: what a build may need (a cache, the network) stays in this stage.
FROM ${PYTHON_IMAGE} AS wheels
COPY requirements/production.txt /
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --require-hashes --wheel-dir /wheels --requirement /production.txt

# --- What runs
FROM ${PYTHON_IMAGE}
# Python writes no .pyc at run time (the root is read-only) and holds no log line back.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    WEB_BIND=0.0.0.0:8000
# The packages are a layer of their own: a changed source line does not install them again. Nothing installs
# anything later, so the base's pip goes: who gets in finds no installer.
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    python -m venv --without-pip /venv \
 && pip --python /venv/bin/python install --no-cache-dir --no-index --no-deps /wheels/*.whl \
 && rm -rf "$(/usr/local/bin/python3 -c 'import pip; print(*pip.__path__)')" /usr/local/bin/pip* /usr/bin/pip*
WORKDIR /app
COPY . .
# Readable for everybody, with any umask at the time of the clone. Static files are hashed and compressed
# once, here; the key and the database are only for this line and are never used.
RUN chmod -R a+rX . \
 && SECRET_KEY=for-collectstatic-only-0123456789-abcdefghijklmnopqrstuvwxyz \
    ALLOWED_HOSTS=localhost DATABASE_URL=postgres://nobody@localhost/none \
    python manage.py collectstatic --noinput \
 && python -m compileall -q .
# Nobody in particular: compose.yml may run it as any user, for nothing here is written to.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=3s --timeout=5s --start-period=90s --retries=3 \
    CMD ["python", "deploy/healthcheck.py"]
CMD ["gunicorn", "-c", "deploy/gunicorn.conf.py"]
