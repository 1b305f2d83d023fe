# syntax=docker/dockerfile:1
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libssl-dev pkg-config && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# libpq is built in, so that the image needs nothing but OpenSSL.
RUN cargo build --release --locked --features bundled-pq && strip target/release/muster

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/muster --create-home --shell /usr/sbin/nologin muster \
    && chmod 700 /var/lib/muster
COPY --from=build /build/target/release/muster /usr/local/bin/muster
COPY LICENSE /usr/share/doc/muster/LICENSE
USER muster
WORKDIR /var/lib/muster
ENV MUSTER_DATA_DIR=/var/lib/muster
VOLUME /var/lib/muster
EXPOSE 8443 8444 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD curl -fsS http://127.0.0.1:8080/readyz || exit 1
ENTRYPOINT ["muster"]
CMD ["serve", "--init"]
