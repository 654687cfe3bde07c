#!/bin/sh
# The contract of the official image: options or a .conf file alone are for redis-server, which runs as `redis`.
set -eu

case "${1:-}" in
  -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "${1:-}" = redis-server ]; then
  if [ "$(id -u)" = 0 ]; then
    find . \! -user redis -exec chown redis '{}' +
    exec setpriv --reuid=redis --regid=redis --init-groups --inh-caps=-all "$0" "$@"
  fi
  umask 0077
  # The official image is compiled with protected mode off, since a container is reached by its own network only.
  said=no
  for argument in "$@"; do
    case "$argument" in
      --protected-mode) said=yes ;;
      *.conf) if grep -qs '^ *protected-mode' "$argument"; then said=yes; fi ;;
    esac
  done
  [ "$said" = yes ] || set -- "$@" --protected-mode no
fi
exec "$@"
