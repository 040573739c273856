// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {Secp256k1} from "../../src/lib/Secp256k1.sol";
import {Test} from "../Test.sol";

contract Secp256k1Test is Test {
    uint256 private constant P = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFC2F;
    // SEC 2 §2.4.1: the base point.
    uint256 private constant GX = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798;
    uint256 private constant GY = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8;

    function isUncompressedPoint(bytes calldata pubkey) external pure returns (bool) {
        return Secp256k1.isUncompressedPoint(pubkey);
    }

    function test_isUncompressedPoint_acceptsPointsOfTheCurve() external view {
        vm.assertTrue(_is(0x04, GX, GY), "G");
        vm.assertTrue(_is(0x04, GX, P - GY), "-G");
        // Published vector of the field: the key of 32 times 0x11.
        vm.assertTrue(
            this.isUncompressedPoint(
                hex"044f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa385b6b1b8ead809ca67454d9683fcf2ba03456d6fe2c4abe2b07f0fbdbb2f1c1"
            ),
            "32 x 0x11"
        );
    }

    function test_isUncompressedPoint_refusesOthers() external view {
        vm.assertFalse(_is(0x04, GX, GY + 1), "off the curve");
        vm.assertFalse(_is(0x04, 0, 0), "zero");
        vm.assertFalse(_is(0x06, GX, GY), "hybrid form");
        // A point of small X and one of small Y, which also fit into 256 bits with P added.
        uint256 y = 0x4218f20ae6c646b363db68605822fb14264ca8d2587fdd6fbc750d587e76a7ee;
        vm.assertTrue(_is(0x04, 1, y), "X = 1");
        vm.assertFalse(_is(0x04, P + 1, y), "X is not reduced");
        uint256 x = 0x1fe1e5ef3fceb5c135ab7741333ce5a6e80d68167653f6b2b24bcbcfaaaff507;
        vm.assertTrue(_is(0x04, x, 1), "Y = 1");
        vm.assertFalse(_is(0x04, x, P + 1), "Y is not reduced");
        vm.assertFalse(this.isUncompressedPoint(abi.encodePacked(hex"02", GX)), "compressed");
        vm.assertFalse(this.isUncompressedPoint(abi.encodePacked(GX, GY)), "raw");
        vm.assertFalse(this.isUncompressedPoint(""), "empty");
        vm.assertFalse(this.isUncompressedPoint(abi.encodePacked(hex"04", GX, GY, hex"00")), "66 bytes");
    }

    function test_fuzz_isUncompressedPoint(uint256 x, uint256 y) external view {
        // Random pairs are on the curve with probability 2^-256.
        vm.assertFalse(_is(0x04, x, y), "random");
    }

    function _is(bytes1 form, uint256 x, uint256 y) private view returns (bool) {
        return this.isUncompressedPoint(abi.encodePacked(form, x, y));
    }
}
