"""The benchmarks: each runs beside its outside reference, in the same run, and prints the ratio.

`bench.cli` is the command, `bench.harness` the machinery, `bench.ipc` and `bench.scale` what is measured.
Programs that run as environments are in `bench.programs`, the references, plain processes, in
`bench.references`.
"""
