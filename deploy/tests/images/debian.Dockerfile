# A program of Debian, for the tests of compose.monitoring.yml, where no registry has its own image.
FROM python:3.13-slim
ARG PROGRAM
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends "$PROGRAM" \
 && ln -s "/usr/bin/$PROGRAM" /program \
 && mkdir /prometheus && chown nobody /prometheus
USER nobody
ENTRYPOINT ["/program"]
