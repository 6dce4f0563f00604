# PostgreSQL 17 for the tests of `rentomatic upgrade`, where no registry has postgres:17: Debian's server with the
# entry point of the image that the project uses.
FROM postgres:18 AS entry
FROM python:3.13-slim
# The same user, as in the images of one registry: both read one volume.
COPY --from=entry /etc/passwd /etc/group /tmp/
RUN groupadd --gid "$(awk -F: '$1 == "postgres" { print $3 }' /tmp/group)" postgres \
 && useradd --uid "$(awk -F: '$1 == "postgres" { print $3 }' /tmp/passwd)" --gid postgres \
        --home-dir /var/lib/postgresql postgres
RUN apt-get update && apt-get install --yes --no-install-recommends postgresql-17 gosu \
 && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* /etc/postgresql \
 && mkdir -p /docker-entrypoint-initdb.d \
 && chown postgres:postgres /var/lib/postgresql /var/run/postgresql \
 && chmod 3777 /var/run/postgresql
COPY --from=entry /usr/local/bin/docker-entrypoint.sh /usr/local/bin/
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 PG_MAJOR=17 PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
