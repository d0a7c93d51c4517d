# One image for the kernel and every server, and one more with the tests. Python comes from Debian, libraries from
# requirements.lock by hash. What changes often is copied last, so that a change of code builds no library again.
#
#     docker build --target system -t exokernel .            what runs
#     docker build --target tests -t exokernel-tests .       the same, with the tests and their tools

FROM debian:bookworm-slim AS base
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends python3 libseccomp2 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/log/*
ENV PATH=/opt/exokernel/venv/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/exokernel \
    PYTHONUNBUFFERED=1 \
    EXO_RUN=/run/exo

# ------------------------------------------------------------------------------------ libraries, built to be copied
FROM base AS libraries
RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends python3-venv
WORKDIR /build
COPY pyproject.toml requirements.lock docker/select_lock.py ./
RUN python3 select_lock.py pyproject.toml requirements.lock > selected.lock \
 && python3 -m venv --without-pip /opt/exokernel/venv \
 && python3 -m venv pip \
 && pip/bin/pip --disable-pip-version-check --python /opt/exokernel/venv/bin/python \
        install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement selected.lock \
 && printf '#!/bin/sh\nexec python -m exo "$@"\n' > /opt/exokernel/venv/bin/exo \
 && chmod 755 /opt/exokernel/venv/bin/exo

# ------------------------------------------------------------------------------ code, for every uid to read, compiled
# Here, for where it runs the file system is read-only; unchecked, so that equal code makes equal layers.
FROM base AS code
WORKDIR /opt/exokernel
COPY . .
RUN chmod -R go+rX,go-w . \
 && python3 -m compileall -qq --invalidation-mode unchecked-hash kernel hwmodel libexo servers exo bench examples \
 && python3 docker/metadata.py pyproject.toml

# ------------------------------------------------------------------------------------------------------ what runs
FROM base AS system
WORKDIR /opt/exokernel
COPY --from=libraries /opt/exokernel/venv venv
COPY --from=code /opt/exokernel/system.toml ./
COPY --from=code /opt/exokernel/exokernel.dist-info exokernel.dist-info
COPY --from=code /opt/exokernel/docker docker
COPY --from=code /opt/exokernel/examples examples
COPY --from=code /opt/exokernel/bench bench
COPY --from=code /opt/exokernel/hwmodel hwmodel
COPY --from=code /opt/exokernel/libexo libexo
COPY --from=code /opt/exokernel/servers servers
COPY --from=code /opt/exokernel/kernel kernel
COPY --from=code /opt/exokernel/exo exo
CMD ["exo", "--help"]

# ------------------------------------------------------------------------------------------------ what is tested
FROM libraries AS test-libraries
RUN python3 select_lock.py pyproject.toml requirements.lock dev > selected.lock \
 && pip/bin/pip --disable-pip-version-check --python /opt/exokernel/venv/bin/python \
        install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement selected.lock

FROM base AS tests
WORKDIR /opt/exokernel
COPY --from=test-libraries /opt/exokernel/venv venv
COPY --from=code /opt/exokernel ./
CMD ["pytest"]
