# isimud as a container: built on Debian, shipped with nothing but the binary,
# the libraries it links, and a CA bundle (for an https AUTH_URL).
FROM debian:trixie-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends \
        gcc make pkg-config libc6-dev libuv1-dev libllhttp-dev libwslay-dev \
        libcjson-dev libcurl4-openssl-dev libssl-dev ca-certificates
WORKDIR /isimud
COPY Makefile ./
COPY src src
COPY test/echo test/echo
RUN make build/isimud
# The binary, what ldd names (the loader and libc's name look-up included), the
# CA bundle, and a user: all that the final image has.
RUN set -eu; root=/rootfs; \
    mkdir -p $root/usr/bin $root/etc/ssl/certs; \
    install -s -m 0755 build/isimud $root/usr/bin/isimud; \
    ldd build/isimud | grep -o '/[^ )]*' | sort -u | while read -r lib; do \
        mkdir -p "$root$(dirname "$lib")"; cp -L "$lib" "$root$lib"; done; \
    for lib in libnss_dns.so.2 libnss_files.so.2; do \
        cp -L /lib/*-linux-gnu/$lib $root$(dirname \
            "$(ldd build/isimud | grep -o '/[^ ]*/libc\.so\.6')")/ || true; done; \
    cp -L /etc/ssl/certs/ca-certificates.crt $root/etc/ssl/certs/; \
    echo 'isimud:x:65532:65532::/:/sbin/nologin' > $root/etc/passwd; \
    echo 'isimud:x:65532:' > $root/etc/group; \
    echo 'hosts: files dns' > $root/etc/nsswitch.conf

FROM scratch
LABEL org.opencontainers.image.title="isimud" \
      org.opencontainers.image.description="In-memory pub/sub push server" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /rootfs/ /
ENV IP=0.0.0.0
EXPOSE 3000
USER 65532:65532
ENTRYPOINT ["/usr/bin/isimud"]
