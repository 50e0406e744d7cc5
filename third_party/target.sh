# Sets for which machine the image's program is built, from TARGETARCH (a word
# of Docker's), by default this one: ARCH is Debian's word, TRIPLET gcc's. To be
# sourced, in the build stage. A program of another machine is made by a cross
# compiler, with that machine's libraries beside those of this one (multiarch).
ARCH=${TARGETARCH:-$(dpkg --print-architecture)}
case $ARCH in
amd64) TRIPLET=x86_64-linux-gnu ;;
arm64) TRIPLET=aarch64-linux-gnu ;;
*)
	echo "isimud: the image is for amd64 and arm64, not $ARCH" >&2
	exit 1
	;;
esac
export ARCH TRIPLET CC="$TRIPLET-gcc" AR="$TRIPLET-gcc-ar"
export PKG_CONFIG_LIBDIR="/opt/curl/lib/pkgconfig:/usr/lib/$TRIPLET/pkgconfig:/usr/share/pkgconfig"

# Installs packages: NAME, or NAME:- for the target's.
target_install() {
	apt-get install -y -q --no-install-recommends \
		$(echo "$*" | sed "s/:-/:$ARCH/g")
}
