# One image for the kernel and every server. Python comes from Debian, libraries from requirements.lock by hash.

FROM debian:bookworm-slim AS libraries
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY pyproject.toml requirements.lock docker/runtime_lock.py ./
RUN python3 runtime_lock.py pyproject.toml requirements.lock > runtime.lock \
 && python3 -m venv --without-pip /opt/exokernel/venv \
 && python3 -m venv /build/pip \
 && /build/pip/bin/pip --disable-pip-version-check --python /opt/exokernel/venv/bin/python \
        install --no-cache-dir --require-hashes --no-deps --only-binary :all: --requirement runtime.lock

FROM debian:bookworm-slim
RUN apt-get -qq update \
 && apt-get -qq install -y --no-install-recommends python3 libseccomp2 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=libraries /opt/exokernel/venv /opt/exokernel/venv
WORKDIR /opt/exokernel
ENV PATH=/opt/exokernel/venv/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/exokernel \
    EXO_RUN=/run/exo
# Last, so that a change of code builds no library again. Byte code is compiled here: the file system is read-only.
COPY . .
RUN printf '#!/bin/sh\nexec python -m exo "$@"\n' > venv/bin/exo && chmod 755 venv/bin/exo \
 && python -m compileall -qq kernel hwmodel libexo servers exo examples && chmod -R go+rX,go-w .
CMD ["exo", "--help"]
