"""Run folders of attempts on nodes that share no disk with the service: they travel through object storage. Torch-free.

    node: scratch folder  --push-->  storage  --pull-->  the service's run folder

An attempt works in a scratch folder on the disk of its node. Every process of the service reads the run folder below
its root, as with a shared disk.
"""
