# certbot for the tests of HTTPS=acme, where no registry has certbot/certbot.
FROM python:3.13-slim
RUN pip install --no-cache-dir certbot==5.8.0
