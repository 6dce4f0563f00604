# Let's Encrypt's own small authority for tests, with the host's binary and the configuration beside it.
FROM python:3.13-slim
COPY . /pebble
ENV PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
CMD ["/pebble/pebble", "-config", "/pebble/config.json"]
