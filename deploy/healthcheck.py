"""The container's health check: asks /readyz; says what is wrong and ends with 1 where it is not ready."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=4)
try:
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    sys.stdout.write(answer.read(1000).decode())
    sys.exit(answer.status != 200)
except OSError as error:
    sys.exit(f"gunicorn does not answer: {error}")
