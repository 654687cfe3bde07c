# The reference application. Builds with BuildKit and with Docker's older builder, so there is no RUN --mount here.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore UV_LINK_MODE=copy UV_NO_CACHE=1
RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends binutils
WORKDIR /build
# build-ca.crt is optional: the CA bundle of a proxy that inspects TLS. It stays in this stage.
COPY requirements/app.lock build-ca.crt* ./
RUN if [ -f build-ca.crt ]; then export PIP_CERT=/build/build-ca.crt SSL_CERT_FILE=/build/build-ca.crt; fi \
 && python -m venv /opt/uv && /opt/uv/bin/pip install --quiet uv==0.13.9 \
 && python -m venv --without-pip /opt/venv \
 && /opt/uv/bin/uv pip install --quiet --python /opt/venv/bin/python --native-tls \
      --require-hashes --only-binary :all: --compile-bytecode -r app.lock \
 # What only developers of the packages need.
 && find /opt/venv -type d \( -name tests -o -path '*/sqlalchemy/testing' -o -path '*/alembic/testing' \) -prune \
      -exec rm -r {} + \
 && find /opt/venv \( -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' \) -delete \
 # The symbols of compiled modules are a third of all; only debuggers read them.
 && find /opt/venv -name '*.so' -exec strip --strip-unneeded {} +

FROM ${BASE_IMAGE} AS code
WORKDIR /srv
COPY alembic.ini gunicorn_conf.py ./
COPY app ./app
# The modules' bytecode, since the container cannot write it. Unchecked: the files in an image never change.
RUN python -m compileall -q --invalidation-mode unchecked-hash app gunicorn_conf.py

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="shortlinks" \
      org.opencontainers.image.description="Short links, the reference application of Slipway" \
      org.opencontainers.image.licenses="MIT"
# Preloaded: the application opens nothing when it is imported, so one import is enough for all workers.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 GUNICORN_PRELOAD=true
RUN echo 'app:x:10001:10001::/srv:/usr/sbin/nologin' >> /etc/passwd && echo 'app:x:10001:' >> /etc/group
COPY --from=build /opt/venv /opt/venv
WORKDIR /srv
# One layer, the last one with content: a change of code moves it and nothing else.
COPY --from=code /srv /srv
ARG APP_REVISION=""
LABEL org.opencontainers.image.revision="${APP_REVISION}"
ENV RELEASE_REVISION="${APP_REVISION}"
USER 10001:10001
# No EXPOSE: in production it listens on the socket of its slot, and an image that names a port is asked there.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "-m", "app.healthcheck"]
CMD ["gunicorn", "--config", "/srv/gunicorn_conf.py", "app.main:app"]
