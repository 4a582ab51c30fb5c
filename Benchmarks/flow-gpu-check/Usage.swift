let usage = """
  usage: flow-gpu-check PART [options]

  Parts, each of which appends lines of JSON to a file as it goes:
    libraries        what was found of CUDA, and the device
    ops              every op against its reference in double precision
    train            the same training on the CPU and the device, twice, with its state on the host, and killed and resumed
    train-vocoder    a small vocoder's training on the CPU and the device
    faults           what is said of no memory, a lost device and the like, and what is whole after
    nccl             the same training with its gradients going through NCCL, of one rank, bit by bit
    golden FOLDER    PyTorch's numbers
    speed            the cases of peer.py: dit-train, dit-lora, sample, vocoder-train; and dit-train-host, with AdamW's
                     moments in the host's memory

  Options:
    --device cuda|blas                     what is checked (cuda)
    --device plan                          speed of trainings: what a device's memory would hold (all steps with --profile)
    --precision float32|tf32|bfloat16      how it computes (float32)
    --out FILE       where the lines go, beside the standard output
    --seed N         draws inputs (1)
    --only TEXT      ops: those whose names have it
    --every N        ops: every N-th case
    --steps N        train, faults: steps of the training (100)
    --cases LIST     speed: which, by commas (the first four)
    --budget SECONDS speed: for all of them (600)
    --runs N         speed: steps that are timed (10)
    --tiny           speed: small sizes, to try it
    --profile        speed: where the time goes, by kinds of steps, and what the device's memory gives in copies

  Exit code 1: something is wrong; 2: it could not be run.
  """
