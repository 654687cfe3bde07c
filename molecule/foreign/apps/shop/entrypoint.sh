#!/bin/sh
set -e
export PREPARED_BY_ENTRYPOINT=yes
exec "$@"
