# CPU:  docker build -t compound .
# CUDA: docker build -t compound --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
#
# PyTorch's wheels bring their own CUDA libraries, so that either base uses a GPU with `--gpus all`; the
# driver comes from the host. Take a CUDA base for NVIDIA's own tools.
#
# docker run --rm --gpus all --ipc=host -v "$PWD/runs:/compound/runs" compound \
#     uv run tools/train.py task=det model=d0
ARG BASE=python:3.13-slim
FROM ${BASE}

# Bases without Python; Debian's and Ubuntu's own pip would otherwise refuse to install uv.
ENV PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore
RUN command -v pip > /dev/null || ( \
        apt-get update \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            ca-certificates python3-pip \
        && rm -rf /var/lib/apt/lists/* )

WORKDIR /compound
COPY . .
RUN pip install --no-cache-dir uv && uv sync --no-dev --no-cache

# The environment is complete: `uv run` starts at once and writes nothing.
ENV UV_NO_SYNC=1
CMD ["uv", "run", "tools/train.py", "--help"]
