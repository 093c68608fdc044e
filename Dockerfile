# syntax=docker/dockerfile:1

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
RUN --mount=type=bind,source=go.mod,target=go.mod \
    --mount=type=bind,source=go.sum,target=go.sum \
    --mount=type=cache,target=/go/pkg/mod \
    go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/worker ./cmd/worker
# A new volume takes its owner from the directory that it covers.
RUN mkdir /out/data

# Certificates, a user, no shell.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/worker /worker
COPY --from=build --chown=65532:65532 /out/data /data
ENV SA_DATA_DIR=/data
VOLUME /data
USER 65532:65532
ARG VERSION=dev
LABEL org.opencontainers.image.title="worker" \
      org.opencontainers.image.description="Market data ingestion for alpha-oracle" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION"
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/worker", "healthcheck"]
ENTRYPOINT ["/worker"]
CMD ["serve"]
