from ipaddress import ip_address, ip_network

from local.machine.layout import CONTROL, PODS, SERVICES, Layout


def test_each_role_gets_a_gpu_node_beside_control(layout: Layout) -> None:
    assert [(node.name, node.is_gpu) for node in layout.nodes] == [
        ("control", False),
        ("gpu-static-a", True),
        ("gpu-swap", True),
    ]


def test_addresses_and_pod_ranges_never_meet(layout: Layout) -> None:
    addresses = {node.address for node in layout.nodes}
    ranges = [ip_network(node.pods) for node in layout.nodes]
    assert len(addresses) == len(layout.nodes)
    assert layout.nodes[0].address == CONTROL
    for one in ranges:
        assert one.subnet_of(ip_network(PODS))  # type: ignore[arg-type]  # both are IPv4 by their text
        assert not one.overlaps(ip_network(SERVICES))
        assert not any(one.overlaps(other) for other in ranges if other is not one)
        assert not any(ip_address(address) in one for address in addresses)


def test_init_reads_the_layout_that_was_written(layout: Layout) -> None:
    assert Layout.from_json(layout.to_json()) == layout
