# isimud as a container: built on Debian, shipped with nothing but the program,
# the libraries that it loads, and a CA bundle for an https AUTH_URL.
# `make image` builds it, for this machine or, by a cross compiler, for
# TARGETARCH=arm64 or amd64; `make image-test` tries it. BuildKit, buildah and
# podman set both arguments for each platform asked for; Docker's old builder
# gets them of scripts/container/image.sh.
ARG BUILDPLATFORM
FROM --platform=$BUILDPLATFORM debian:trixie-slim AS build
ENV DEBIAN_FRONTEND=noninteractive
ARG TARGETARCH
COPY third_party/target.sh third_party/libcurl.sh /tmp/
RUN . /tmp/target.sh && dpkg --add-architecture "$ARCH" && apt-get update && \
    target_install make pkg-config dpkg-dev brotli ca-certificates openssl \
        "gcc-$(echo $TRIPLET | tr _ -)" libc6-dev:- libuv1-dev:- libllhttp-dev:- \
        libwslay-dev:- libcjson-dev:- libssl-dev:- libnats-dev:- zlib1g-dev:- \
        libsodium-dev:- libprotobuf-c-dev:-
ARG CURL=
RUN /tmp/libcurl.sh $CURL
WORKDIR /isimud
COPY Makefile LICENSE ./
COPY third_party third_party
COPY src src
ARG VERSION=unknown
ARG REVISION=unknown
RUN . third_party/target.sh && \
    make -j "$(nproc)" build/isimud CC="$CC" AR="$AR" REVISION="$REVISION" \
        LINK="$([ -e /opt/curl/source-version ] && echo static || echo shared)"
# All that the final image has. What is loaded includes the loader; libc itself
# reads hosts and asks DNS. Each package's record and licence go along.
RUN set -eu; root=/rootfs; . third_party/target.sh; \
    install -D build/isimud $root/usr/bin/isimud; \
    "$TRIPLET-strip" $root/usr/bin/isimud; \
    install -D -m 0644 LICENSE $root/usr/share/doc/isimud/copyright; \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt \
        $root/etc/ssl/certs/ca-certificates.crt; \
    for lib in $(third_party/needed.sh build/isimud); do \
        install -D -m 0755 "$lib" "$root$lib"; \
    done; \
    third_party/records.sh $root build/isimud "$VERSION"; \
    echo 'isimud:x:65532:65532::/:/sbin/nologin' > $root/etc/passwd; \
    echo 'isimud:x:65532:' > $root/etc/group; \
    echo 'hosts: files dns' > $root/etc/nsswitch.conf

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="isimud" \
      org.opencontainers.image.description="In-memory pub/sub push server" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.source="https://github.com/tropicbliss/isimud" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /rootfs/ /
# `docker stop` waits 10 seconds, unless told otherwise; then it kills.
ENV IP=:: DRAIN_SECONDS=8
EXPOSE 3000
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 \
    CMD ["/usr/bin/isimud", "healthcheck"]
ENTRYPOINT ["/usr/bin/isimud"]
