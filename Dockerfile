# relope on a CPU: `docker build --tag relope .`, then `docker run --rm relope` runs the demo.
#   docker run --rm --volume "$PWD/runs:/home/relope/runs" relope extract --model tiny-vl --dataset tiny
FROM python:3.13.9-slim-bookworm AS build
WORKDIR /src
COPY docker/constraints.txt ./
RUN python -m venv /opt/relope \
    && /opt/relope/bin/pip install --no-cache-dir --constraint constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml README.md LICENSE pipelines.yaml ./
COPY relope relope
RUN /opt/relope/bin/pip install --no-cache-dir --constraint constraints.txt '.[endpoint,serve]'

FROM python:3.13.9-slim-bookworm
RUN useradd --create-home --uid 1000 relope
COPY --from=build /opt/relope /opt/relope
USER 1000
WORKDIR /home/relope
RUN mkdir runs
ENV PATH=/opt/relope/bin:$PATH
ENTRYPOINT ["relope"]
CMD ["demo"]
