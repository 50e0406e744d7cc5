/* version.h - the release this tree makes. */
#ifndef ISIMUD_BASE_VERSION_H
#define ISIMUD_BASE_VERSION_H

#define VERSION "0.1.0"

#endif
