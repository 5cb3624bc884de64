//! The example `image_info`.

use tine_e2e::examples::example;
use tine_e2e::names::OUTCOME;

/// A picture of one white pixel.
const PNG: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\
    \x08\x00\x00\x00\x00\x3a\x7e\x9b\x55\x00\x00\x00\x0a\x49\x44\x41\x54\x78\x9c\x63\xf8\x0f\x00\x01\
    \x01\x01\x00\xb1\x38\xf6\x14\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// A picture in the format TGA, whose pixels are one colour: 128 of them in four bytes.
fn one_colour(width: u16, height: u16) -> Vec<u8> {
    let mut file = vec![0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    file.extend([24, 0]);
    let runs = (usize::from(width) * usize::from(height)).div_ceil(128);
    file.extend([0xff, 1, 2, 3].repeat(runs));
    file
}

#[test]
fn a_picture_has_a_size_and_other_bytes_have_none() {
    let server = example("image_info", &[]);
    assert_eq!(server.connect().send(PNG).half_close().read_text(), "1 x 1\n");
    assert_eq!(server.connect().send(one_colour(640, 480)).half_close().read_text(), "640 x 480\n");
    for bad in [&PNG[..40], b"no picture", b""] {
        assert_eq!(
            server.connect().send(bad).half_close().read_text(),
            "error: stbi_load_from_memory failed\n"
        );
    }
}

#[test]
fn a_bomb_ends_only_its_own_process() {
    let server = example("image_info", &[]);
    let mut other = server.connect();
    other.send(&PNG[..20]);
    // It takes more than half of the memory, and the copy of it does, too.
    server.connect().send(one_colour(8000, 8000)).half_close().expect_closed();
    let aborted = |line: &str| line.contains(OUTCOME) && line.contains("signal ABRT");
    server.log.wait_for_line("the abort", aborted);
    assert_eq!(other.send(&PNG[20..]).half_close().read_text(), "1 x 1\n");
    assert_eq!(server.connect().send(PNG).half_close().read_text(), "1 x 1\n");
    assert_eq!(server.log.lines().iter().filter(|line| aborted(line)).count(), 1);
}
